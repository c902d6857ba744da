"""Scores of single examples: their means are those of `aecli eval`, and others by hand."""

import numpy as np
import pytest
import torch
from omegaconf import open_dict
from sklearn.decomposition import PCA

from aecli.build import build
from aecli.data import Batch
from aecli.errors import SettingError
from aecli.evaluation import metrics, scores
from aecli.evaluation.likelihood import marginal_nll
from aecli.evaluation.scores import kind_for
from aecli.priors import Standard
from tests.conftest import configure

SMALL = ("network.hidden=[16]", "dataset.classes=[0,1,2]", "dataset.train_size=64")


@pytest.fixture(scope="module", params=["vae", "vae prior=vamp", "ae"])
def drawn(request):
    """Return a model as it is drawn, but for codes that differ, and the digits."""
    likelihood = ["likelihood=gaussian"] if request.param == "ae" else []
    words = f"model={request.param}".split()
    config, _ = configure(*words, *likelihood, *SMALL, "model.code_dim=4")
    data, model = build(config, "dataset"), build(config, "model").eval()
    data.setup()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4)
    return model, data


def scored(score, data, size, split="test"):
    with torch.no_grad():
        batches = data.batches(split, size, 5)
        return np.concatenate([score(batch).numpy() for batch in batches])


def of_kind(kind, model, data):
    training = data.batches("train", 50)
    return {
        "mse": lambda: scores.mse(model),
        "nll": lambda: scores.nll(model),
        "elbo": lambda: scores.elbo(model),
        "marginal_nll": lambda: scores.marginal_nll(model, 20),
        "knn": lambda: scores.NearestCodes(model, training, 64, 3),
        "mahalanobis": lambda: scores.mahalanobis(model, training),
    }[kind]()


@pytest.mark.parametrize("kind", scores.KINDS)
@torch.no_grad()
def test_a_score_does_not_depend_on_the_batches(kind, drawn, monkeypatch):
    model, data = drawn
    if kind in ("elbo", "marginal_nll") and not model.has_prior:
        pytest.skip("no prior")
    whole = scored(of_kind(kind, model, data), data, 1000)
    assert whole.shape == (len(data.splits["test"]),)
    assert whole.std() > 0
    monkeypatch.setattr(scores, "DECODED_AT_ONCE", 30)
    for size in (7, 100):
        again = scored(of_kind(kind, model, data), data, size)
        np.testing.assert_allclose(again, whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_means_are_those_of_an_evaluation(drawn):
    model, data = drawn
    test = data.batches("test", 64, 5)
    expected = metrics.reconstruction(model, test)
    assert scored(scores.mse(model), data, 64).mean() == pytest.approx(expected["mse"], rel=1e-5)
    nll = scored(scores.nll(model), data, 64).mean()
    assert nll == pytest.approx(expected["nll"], rel=1e-5)
    if model.has_prior:
        elbo = -scored(scores.elbo(model), data, 64).mean()
        assert elbo == pytest.approx(expected["elbo"], rel=1e-5)
        marginal = scored(scores.marginal_nll(model, 20), data, 64).mean()
        assert marginal == pytest.approx(marginal_nll(model, test, 20, 1000), rel=1e-5)
        assert marginal < -elbo
        draws = [batch.draws.of("code") for batch in test]
        posteriors = [model.posterior(batch.x) for batch in test]
        z = [q.sample(1, own) for q, own in zip(posteriors, draws, strict=True)]
        by_samples = torch.cat(
            [(q.log_prob(s) - model.log_prior(s))[0] for q, s in zip(posteriors, z, strict=True)]
        )
        is_exact = expected["kl"] != pytest.approx(by_samples.mean().item(), rel=1e-5)
        assert is_exact == isinstance(model.prior, Standard)


@torch.no_grad()
def test_distances_to_the_training_codes_are_those_by_hand(drawn):
    model, data = drawn
    train, test = (metrics.codes(model, data.batches(n, 64))[0].numpy() for n in ("train", "test"))
    distances = np.linalg.norm(test[:, None] - train[None], axis=2)
    np.testing.assert_allclose(
        scored(of_kind("knn", model, data), data, 64), np.sort(distances)[:, 2], rtol=1e-4
    )
    among = np.linalg.norm(train[:, None] - train[None], axis=2)
    nearest = of_kind("knn", model, data)
    found = np.concatenate([nearest.of_training(b) for b in data.batches("train", 64)])
    np.testing.assert_allclose(found, np.sort(among)[:, 3], rtol=1e-4, atol=1e-6)
    apart = test - train.mean(axis=0)
    inverse = np.linalg.inv(np.cov(train.T, bias=True))
    distance = np.einsum("bi,ij,bj->b", apart, inverse, apart)
    errors = {
        name: np.concatenate(
            [
                (model.reconstruct(batch.original) - batch.original).square().flatten(1).sum(1)
                for batch in data.batches(name, 64)
            ]
        )
        for name in ("train", "test")
    }
    expected = distance + errors["test"] / (errors["train"].mean() / (64 - 4))
    np.testing.assert_allclose(
        scored(of_kind("mahalanobis", model, data), data, 64), expected, rtol=1e-3
    )


@torch.no_grad()
def test_mahalanobis_of_pca_is_the_likelihood_of_probabilistic_pca():
    config, _ = configure("model=pca", "model.code_dim=5")
    data, model = build(config, "dataset"), build(config, "model").eval()
    data.setup()
    train, test = (
        data.splits[name].values.flatten(1).double().numpy() / 16 for name in ("train", "test")
    )
    model.double()
    x = torch.from_numpy(train)
    model.solve(x.sum(0), x.T @ x, len(x))
    found = scored(scores.mahalanobis(model.float(), data.batches("train", 100)), data, 100)
    reference = PCA(5, svd_solver="full").fit(train).score_samples(test)
    constant = found + 2 * reference
    # scikit-learn divides by n − 1 in place of n.
    np.testing.assert_allclose(constant, constant.mean(), atol=2e-3 * found.mean())


@torch.no_grad()
def test_mahalanobis_of_codes_without_full_rank_does_not_depend_on_the_batches(drawn):
    """Two units alike but for the rounding of float32, whose inverse variance would be huge."""
    model, data = drawn
    encode = model.encode

    def twice(x):
        code = encode(x)
        code[:, 1] = 3 * code[:, 0] + 1
        return code

    model.encode = twice
    try:
        one, other = (
            scored(scores.mahalanobis(model, data.batches("train", size)), data, size)
            for size in (64, 5)
        )
    finally:
        del model.encode
    np.testing.assert_allclose(one, other, rtol=1e-4)
    assert one.max() < 1e6


@torch.no_grad()
def test_mahalanobis_of_a_table_counts_the_entries_that_are_there():
    """What the code leaves out, per entry, has a mean of D − K on the training split."""
    features = [["number", 6], ["mask", 6]]
    config, _ = configure("model=ae", "likelihood=mixed", "network.hidden=[]", "model.code_dim=2")
    with open_dict(config):
        config.dataset.shape, config.dataset.features = [12], features
    model = build(config, "model").eval()
    x = torch.randn(200, 12)
    x[:, 6:] = (torch.rand(200, 6) < 0.7).float()
    x[:, :6] *= x[:, 6:]
    none = torch.full((200,), -1)
    batch = Batch(x, x, none)
    score = scores.mahalanobis(model, [batch])(batch)
    assert score.mean().item() == pytest.approx(x[:, 6:].sum(1).mean().item(), rel=1e-5)


def test_more_neighbors_than_there_are_is_refused(drawn):
    model, data = drawn
    with pytest.raises(SettingError, match="neighbors=64: the training split has 64 examples"):
        scores.NearestCodes(model, data.batches("train", 50), 64, 64)


@pytest.mark.parametrize(
    ("words", "kind", "expected"),
    [
        (["model=vae"], None, "elbo"),
        (["model=ae"], None, "mse"),
        (["model=vae", "likelihood=cross_entropy"], None, "mse"),
        (["model=ae", "likelihood=gaussian"], "nll", "nll"),
        (["model=ae"], "knn", "knn"),
        (["model=ae", "likelihood=mse"], "nll", "kind=nll: the run's likelihood is no density"),
        (["model=ae"], "elbo", "kind=elbo: the run's model=name has no prior; use kind=mse"),
        (["model=vae", "likelihood=cross_entropy"], "marginal_nll", "is no density; use kind=mse"),
        (["model=ae"], "best", "kind=best: must be one of mse, nll"),
    ],
)
def test_the_kind_goes_with_the_model(words, kind, expected):
    model = build(configure(*words)[0], "model")
    if expected in scores.KINDS:
        assert kind_for(kind, model, "name") == expected
    else:
        with pytest.raises(SettingError, match=expected):
            kind_for(kind, model, "name")
