"""What `eval=theory` measures of a run, whatever its batches, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import OmegaConf

from aecli.build import build
from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.evaluation import theory
from aecli.evaluation.gap import gaps
from aecli.evaluation.generated import SOURCES, generated
from aecli.evaluation.theory import Theory
from aecli.runs.find import Run
from aecli.runs.load import Loaded, load
from tests.conftest import configure

SMALL = ("network.hidden=[16]", "model.code_dim=2", "dataset.validation_size=300")


def loaded(*words):
    small = [word for word in SMALL if "hidden" not in word or "model=pca" not in words]
    config, choices = configure(*small, *words)
    model = build(config, "model").eval().requires_grad_(False)
    run = Loaded(Run(Path("x"), Path("x/other.ckpt")), config, choices, model, None, 0)
    run.__dict__["data"] = data = build(config, "dataset")
    data.setup()
    return run


def settings(batch_size=50, **images):
    return OmegaConf.create({"decoded_at_once": 1000, "batch_size": batch_size, **images})


@pytest.mark.parametrize(
    "words", [("model=vae",), ("model=iwae", "prior=vamp", "prior.pseudo_inputs=7")], ids=" ".join
)
def test_batches_change_no_number_and_every_number_says_how_it_was_made(words, monkeypatch):
    monkeypatch.setattr(theory, "SAMPLES", 200)
    monkeypatch.setattr(theory, "DRAWS", 100)
    run = loaded(*words)
    asked = {"gap_images": 3, "gradient_images": 2, "aggregate_images": 90}
    one, other = (Theory(settings(size, **asked)).measure(run, 5) for size in (64, 7))
    assert one.values == pytest.approx(other.values, rel=1e-3)
    assert one.how.keys() == one.values.keys()
    assert {"gap_kl", "gradient_agreement", "aggregate_kl"} <= one.values.keys()
    assert one.figures.keys() == {"gap", "gradients", "aggregate"}
    seeded = Theory(settings(64, **asked)).measure(run, 6)
    assert seeded.values["gap_sampled"] != one.values["gap_sampled"]


def test_random_codes_lie_between_the_floor_and_the_ceiling():
    run = loaded("model=pca", "model.code_dim=8")
    x = run.data.splits["train"].values.flatten(1).double() / 16
    run.model.solve(x.sum(dim=0), x.T @ x, len(x))
    found = generated(run.model, run.data, 300, at_once=64, seed=0)
    again = generated(run.model, run.data, 300, at_once=300, seed=0)
    assert list(found.distances) == ["train", "fitted", "normal", "noise"]
    assert found.distances == again.distances
    assert all(len(each) == 300 for each in found.examples.values())
    assert "64 features of a classifier" in found.space
    floor, fitted, *_, ceiling = found.distances.values()
    assert abs(floor.kernel.value) < 4 * floor.kernel.error
    assert abs(fitted.kernel.value) < ceiling.kernel.value / 10
    assert floor.neighbor.value < fitted.neighbor.value < ceiling.neighbor.value
    assert floor.manifolds.precision > fitted.manifolds.precision > ceiling.manifolds.precision
    assert found.test_neighbor.value == pytest.approx(floor.neighbor.value, rel=0.2)
    assert found.distances.keys() < SOURCES.keys()


def test_the_distances_do_not_depend_on_the_order_of_the_examples():
    """A folder has its classes one after the other."""
    run = loaded("model=pca", "model.code_dim=8")
    x = run.data.splits["train"].values.flatten(1).double() / 16
    run.model.solve(x.sum(dim=0), x.T @ x, len(x))
    for name in ("train", "test"):
        split = run.data.splits[name]
        order = split.labels.argsort(stable=True)
        run.data.splits[name] = replace(split, rows=split.rows[order])
    found = generated(run.model, run.data, 300, at_once=300, seed=0)
    floor, fitted, *_, ceiling = found.distances.values()
    assert abs(floor.kernel.value) < 4 * floor.kernel.error < 0.5 * ceiling.kernel.value
    assert abs(fitted.kernel.value) < ceiling.kernel.value / 10
    assert floor.manifolds.recall > 0.8


def test_without_labels_the_numbers_themselves_are_compared():
    run = loaded("model=vae")
    run.data.is_labelled = False
    found = generated(run.model, run.data, 100, at_once=1000, seed=0)
    assert found.space == "the numbers of the examples"
    assert list(found.distances) == ["train", "prior", "fitted", "noise"]


def test_the_initial_weights_are_those_that_the_training_started_with(tmp_path):
    config, choices = configure("model=vae", "seed=7", "trainer=debug", *SMALL)
    first = {}

    class Watch(Callback):
        def on_train_start(self, trainer, model):
            first.update({k: v.clone() for k, v in model.state_dict().items()})

    train(config, tmp_path, choices, callbacks=[Watch()])
    run = load(Run(tmp_path, tmp_path / "checkpoints" / "last.ckpt"))
    (start, *_) = theory._over_training(run)
    assert (start.name, start.step) == ("initial", 0)
    assert all(torch.equal(first[k], v) for k, v in start.model.state_dict().items())


@pytest.mark.parametrize(
    ("words", "images", "told"),
    [
        ("model=ae", {"gap_images": 5}, "eval.gap_images=5: model=ae has no posterior"),
        ("model=pca", {"aggregate_images": 5}, "eval.aggregate_images=5: model=pca has no post"),
        ("model=vae likelihood=mse", {"gap_images": 5}, "eval.gap_images=5: the run's likelihood"),
        ("model=vae", {"gap_images": 0}, "eval.gap_images=0: must be a whole number"),
        ("model=vae", {"generated_images": 9}, "eval.generated_images=9: must be a whole number"),
    ],
)
def test_what_a_model_does_not_have_is_refused(words, images, told):
    with pytest.raises(SettingError, match=told):
        Theory(settings(**images)).check(loaded(*words.split()))


def test_too_few_test_examples_are_refused():
    run = loaded("model=vae", "dataset.test_size=50")
    told = (
        "eval.generated_images=5000: needs 100 test and 100 training examples, and the test split"
    )
    with pytest.raises(SettingError, match=told):
        Theory(settings(generated_images=5000)).check(run)


def test_a_transcoders_targets_are_not_compared_with_its_input():
    run = loaded("model=vae")
    run.data.card.target_shape = (3,)
    with pytest.raises(SettingError, match="generated_images=200: the run's model makes targets"):
        Theory(settings(generated_images=200)).check(run)


def test_a_dead_code_has_a_gap_too():
    run = loaded("model=vae")
    run.model.encoder[-1].weight.zero_()
    found = gaps(run.model, run.data.batches("test", 4), images=4, at_once=1000, samples=200)
    assert torch.allclose(found.integrated, found.kl, atol=0.5)
