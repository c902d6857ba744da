"""When a result is stale: its run's settings are not those of the experiment as it is now."""

import shutil

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from aecli.config import register
from benchmarks.reproductions import settings
from benchmarks.reproductions.settings import differences, of_experiment, of_run
from tests.benchmarks.reproductions.made import run
from tests.conftest import CONF, EXPERIMENTS

NAME = "kingma2013/d5"


@pytest.fixture
def conf(tmp_path):
    """Return a copy of `conf/`, from which everything is composed in this test."""
    folder = shutil.copytree(CONF, tmp_path / "conf")
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        yield folder


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def changed(before):
    return list(differences(before, of_experiment(NAME)[0]))


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (f"experiment/{NAME}.yaml", "code_dim: 5", "code_dim: 6", "model.code_dim=5, now 6"),
        # the experiment that it is based on, and a default
        ("experiment/kingma2013/d20.yaml", "lr: 3.0e-3", "lr: 0.1", "optimizer.lr=0.003, now 0.1"),
        ("optimizer/adam.yaml", "1.0e-8", "1.0e-4", "optimizer.eps=1e-08, now 0.0001"),
        ("network/mlp.yaml", "batch_norm: false", "", "network.batch_norm=False, now null"),
        ("noise/none.yaml", "Noise", "Gaussian", "noise._target_=Noise, now Gaussian"),
        ("experiment/kingma2013/d20.yaml", "metric: marginal_nll", "metric: elbo",
         "published.metric=marginal_nll, now elbo"),
    ],
)  # fmt: skip
def test_a_change_of_the_experiment_or_of_a_default_makes_it_stale(conf, file, old, new, expected):
    before, _ = of_experiment(NAME)
    replace(conf / file, old, new)
    assert changed(before) == [expected]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (f"experiment/{NAME}.yaml", "goal: 111.71", "goal: 1   # a comment"),
        ("experiment/kingma2013/d20.yaml", "pictures_every: 50", "pictures_every: 1"),
        ("dataset/mnist.yaml", "http://yann.lecun.com/exdb/mnist", "http://somewhere.else"),
        ("noise/none.yaml", "aecli.noise.Noise", "aecli.noises.none.Noise"),
        ("eval/standard.yaml", "C: 1.0", "C: 2.0"),  # it classifies nothing
        ("network/mlp.yaml", "batch_norm: false", "batch_norm: false\nlater: null"),
    ],
)
def test_what_changes_no_number_makes_nothing_stale(conf, file, old, new):
    before, _ = of_experiment(NAME)
    replace(conf / file, old, new)
    assert changed(before) == []


def test_a_setting_that_was_added_is_known_by_the_value_of_before(conf, monkeypatch):
    before, _ = of_experiment(NAME)
    path = conf / "network/mlp.yaml"
    replace(path, "batch_norm: false", "batch_norm: false\nlater: torch")
    assert changed(before) == ["network.later=null, now torch"]
    monkeypatch.setattr(settings, "ADDED", {"network.later": "torch"})
    assert changed(before) == []
    replace(path, "later: torch", "later: glorot")
    assert changed(before) == ["network.later=torch, now glorot"]


def test_what_a_run_has_found_in_its_data_makes_nothing_stale():
    now, _ = of_experiment("synthsaebench/batch_topk_l25")
    assert "dataset.shape" not in now
    assert not list(differences(now | {"dataset.shape": [768]}, now))
    mnist, _ = of_experiment(NAME)
    assert list(differences(mnist | {"dataset.shape": [1, 8, 8]}, mnist))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_run_has_the_settings_of_its_experiment(tmp_path, name):
    now, published = of_experiment(name)
    places = ["dataset.root=/tmp"] if name.partition("/")[0] != "synthsaebench" else []
    ran = of_run(run(tmp_path, name, "seed=3", *places, epochs=0))
    assert ran == now
    assert published.metric == now["published.metric"]
    assert not any(str(tmp_path) in str(value) or "/tmp" in str(value) for value in ran.values())
