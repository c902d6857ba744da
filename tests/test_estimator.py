"""`aecli.Autoencoder`, held against scikit-learn's contract of an estimator."""

import pickle
import tempfile

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import aecli
from aecli.errors import SettingError

TINY = ("network.hidden=[4]",)
X = load_iris().data


def tiny(model="ae", **settings):
    return aecli.Autoencoder(
        model, **{"epochs": 1, "overrides": TINY, "random_state": 0} | settings
    )


@pytest.mark.slow
@parametrize_with_checks([tiny("vae")])  # all of them hold: none is expected to fail
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def fitted():
    return tiny(code_dim=2).fit(X)


def test_a_dictionary_is_one_of_its_models():
    rows = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    words = ["sparsity.k=2", "dataset.batch_size=50"]
    model = aecli.Autoencoder("topk_sae", 12, 1, random_state=0, overrides=words).fit(rows)
    assert ((model.transform(rows) != 0).sum(axis=1) <= 2).all()
    assert model.inverse_transform(model.transform(rows)).shape == rows.shape


def test_codes_rows_and_scores(fitted):
    codes = fitted.transform(X)
    assert codes.shape == (150, 2)
    assert fitted.inverse_transform(codes).shape == X.shape
    assert fitted.n_features_in_ == 4
    assert fitted.get_feature_names_out().tolist() == ["autoencoder0", "autoencoder1"]
    unusual = X[:1] + 100
    assert fitted.score_samples(unusual) < fitted.score_samples(X).min()
    assert fitted.score(X) == pytest.approx(fitted.score_samples(X).mean())


def test_a_pickle_holds_the_checkpoint_and_nothing_is_left(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content = pickle.dumps(fitted)
    assert fitted.checkpoint_ in content
    assert "_model" not in fitted.__getstate__()
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    assert not list(tmp_path.iterdir())
    checkpoint = tmp_path / "of.ckpt"
    checkpoint.write_bytes(fitted.checkpoint_)
    np.testing.assert_array_equal(aecli.load(checkpoint).encode(X), fitted.transform(X))


@pytest.mark.slow
def test_a_seed_repeats_and_another_differs(fitted):
    same, other = tiny(code_dim=2).fit(X), tiny(code_dim=2, random_state=1).fit(X)
    np.testing.assert_array_equal(same.transform(X), fitted.transform(X))
    assert not np.allclose(other.transform(X), fitted.transform(X))


@pytest.mark.slow
def test_a_score_of_samples_depends_on_the_row_alone():
    vae = tiny("vae").fit(X)
    whole = vae.score_samples(X)
    np.testing.assert_allclose(vae.score_samples(X[::-1])[::-1], whole, rtol=1e-5)
    np.testing.assert_allclose(vae.score_samples(X[70:71]), whole[70:71], rtol=1e-5)


@pytest.mark.slow
def test_columns_are_standardized_unless_asked_otherwise():
    model = tiny(code_dim=2).fit(X)._model
    np.testing.assert_allclose(model.card.shift, X.mean(0), rtol=0.05)
    assert tiny(code_dim=2, scale="none").fit(X)._model.card.scale == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "nope"}, "model=nope: must be one of ae"),
        ({"scale": "no"}, r"dataset\.scale=no: must be one of"),
        ({"code_dim": 0}, r"model\.code_dim=0: must be a whole number"),
        ({"epochs": -1}, r"trainer\.max_epochs=-1"),
        ({"overrides": ["optimizer.lr=x"]}, r"optimizer\.lr=x: must be a number"),
        ({"overrides": "optimizer.lr=1"}, "must be a list of words"),
        ({"overrides": ["seed=1"]}, "seed is typed twice"),
    ],
)
def test_a_mistake_is_one_line(settings, message, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SettingError, match=message):
        tiny(**settings).fit(X)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_it_works_in_a_pipeline_and_in_a_grid_search():
    pipeline = make_pipeline(MinMaxScaler(), tiny(scale="none"))
    search = GridSearchCV(pipeline, {"autoencoder__code_dim": [1, 3]}, cv=2, error_score="raise")
    search.fit(X)
    assert clone(search.best_estimator_).fit_transform(X).shape[0] == 150
    table = search.cv_results_["mean_test_score"]
    assert table.shape == (2,)
    assert np.isfinite(table).all()


@pytest.mark.slow
def test_a_frame_in_gives_a_frame_out():
    frame = load_iris(as_frame=True).data
    codes = tiny(code_dim=2).set_output(transform="pandas").fit_transform(frame)
    assert list(codes.columns) == ["autoencoder0", "autoencoder1"]
