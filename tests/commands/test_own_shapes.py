"""Training, eval and samples of examples that are no grey images: rows, colours, opacity."""

import logging

import numpy as np
import pytest
from PIL import Image

from aecli.commands.evaluate import main as evaluate
from aecli.commands.sample import main as sample
from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.evaluation import metrics
from aecli.runs.find import find
from aecli.runs.load import load
from aecli.runs.metrics_file import read_metrics
from tests.conftest import configure
from tests.events import events

SHAPES = {"rows": (7,), "rgb": (9, 12, 3), "rgba": (9, 12, 4)}
NETWORKS = {"rows": "mlp", "rgb": "resnet", "rgba": "conv"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Train a model on each kind of examples; the rows alone have labels, which are texts."""
    folder = tmp_path_factory.mktemp("shapes")
    draw = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        if name == "rows":
            x, labels = 5 + 3 * draw.normal(size=(60, *shape)), ["sunny", "rainy", "dry"] * 20
            np.savez(folder / name, x=x, weather=labels)
            words = [f"dataset.file={folder}/{name}.npz", "dataset.key=x"]
            words += ["dataset.labels=weather", "noise=salt_and_pepper", "noise.amount=1.0"]
        else:
            np.save(folder / name, draw.integers(0, 256, size=(60, *shape), dtype=np.uint8))
            words = [f"dataset.file={folder}/{name}.npy"]
        words += ["dataset=array", f"network={NETWORKS[name]}", "model.code_dim=3"]
        config, choices = configure(*words, "trainer.max_epochs=1", "pictures_every=1")
        train(config, folder / "runs" / name, choices)
    return folder / "runs"


@pytest.fixture(scope="module")
def evaluated(runs):
    """Evaluate them; return their folder and what was printed of each."""
    logging.getLogger("aecli").setLevel(logging.INFO)
    for name in SHAPES:
        levels = ("eval.noise=salt_and_pepper", "eval.noise_levels=[1.0]")
        words = (f"run={runs / name}", "eval.importance_samples=2", *levels)
        evaluate(configure(*words, command="eval")[0])
    return runs


@pytest.mark.parametrize("name", SHAPES)
def test_metrics_are_those_that_such_examples_have(evaluated, name):
    test = read_metrics(evaluated / name)["test"]
    features = np.prod(SHAPES[name])
    assert test["sse"] == pytest.approx(features * test["mse"], rel=1e-4)
    assert ("psnr" in test) == ("ssim" in test) == (name != "rows")
    assert ("probe_error" in test) == ("classified_images" in test) == (name == "rows")
    assert test["mse_salt_and_pepper_1"] > 0


def test_a_noise_keeps_to_the_range_of_the_training_split(evaluated):
    loaded = load(*find(str(evaluated / "rows")))
    loaded.model.noise.fit(loaded.data.values(), loaded.card.shape)
    assert loaded.model.noise.high > 1.5
    measured = read_metrics(evaluated / "rows")
    for split, name in (("val", "validation"), ("test", "test")):
        batches = loaded.data.batches(name, draw_seed=0)
        values = metrics.reconstruction(loaded.model, batches)
        assert measured[split]["loss"] == pytest.approx(values["loss"], rel=1e-4)
    noisy = metrics.noisy_reconstruction(loaded.model, batches, "salt_and_pepper", [1.0])
    assert measured["test"]["mse_salt_and_pepper_1"] == pytest.approx(*noisy.values(), rel=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_pictures_are_drawn_of_all(evaluated, name):
    pictures = {path.stem for path in (evaluated / name / "eval").iterdir()}
    assert pictures == {"reconstructions", "activations", "codes", "filters"}
    assert {"reconstructions", "samples"} <= set(events(evaluated / name).Tags()["images"])
    assert (evaluated / name / "projector_config.pbtxt").exists()
    metadata = list((evaluated / name).rglob("metadata.tsv"))
    names = metadata[0].read_text().split() if metadata else []
    assert set(names) == ({"sunny", "rainy", "dry"} if name == "rows" else set())


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", ["prior", "reconstruct", "traverse"])
def test_samples_are_a_picture_and_an_array_of_the_examples_shape(runs, name, kind):
    sample(configure(f"run={runs / name}", f"kind={kind}", command="sample")[0])
    arrays = np.load(runs / name / "samples" / f"{kind}.npz")
    shape = SHAPES[name]
    first = shape if name == "rows" else (shape[-1], *shape[:-1])
    assert arrays["images"].shape[1:] == first
    with Image.open(runs / name / "samples" / f"{kind}.png") as picture:
        assert picture.mode == ("L" if name == "rows" else "RGB")


def test_classes_are_named_and_examples_without_labels_say_so(runs):
    words = ("kind=interpolate", "steps=3")
    sample(configure(f"run={runs / 'rows'}", *words, "classes=[rainy,dry]", command="sample")[0])
    assert len(np.load(runs / "rows" / "samples" / "interpolate.npz")["images"]) == 3
    for classes, message in (
        ("[rainy,snow]", "classes=snow: no such class in the test set; must be of dry, rainy, sun"),
        (None, "kind=interpolate: the test set has no labels"),
        ("[0,1]", "classes=0: no such class in the test set; it has no labels"),
    ):
        name = "rows" if classes == "[rainy,snow]" else "rgb"
        typed = () if classes is None else (f"classes={classes}",)
        with pytest.raises(SettingError, match=message):
            sample(configure(f"run={runs / name}", *words, *typed, command="sample")[0])


@pytest.mark.parametrize("name", SHAPES)
def test_units_are_of_examples_or_images(runs, name, capsys):
    words = ("eval.pictures=false", "eval.importance_samples=0", "eval.noise_levels=[]")
    evaluate(configure(f"run={runs / name}", *words, command="eval")[0])
    out = " ".join(capsys.readouterr().out.split())
    what = "feature" if name == "rows" else "pixel and channel"
    assert f"squared error per {what} │" in out
    assert ("nats per example" in out, "nats per image" in out) == (name == "rows", name != "rows")


def test_a_noise_that_rounds_to_nothing_is_refused_and_not_measured(runs, tmp_path, caplog):
    words = [f"dataset.file={runs.parent}/rows.npz", "dataset.key=x", "dataset=array"]
    config, choices = configure(*words, "model=dae", "noise.amount=0.07", "trainer.max_epochs=1")
    with pytest.raises(
        SettingError, match=r"noise\.amount=0\.07: noise=masking of so few features"
    ):
        train(config, tmp_path / "run", choices)
    config, choices = configure(*words, "model=dae", "noise.amount=0.3", "trainer.max_epochs=1")
    train(config, tmp_path / "run", choices)
    with caplog.at_level(logging.INFO, "aecli"):
        words = (f"run={tmp_path}/run", "eval.noise_levels=[0,0.05,0.07,0.5]", "eval.protocol=none")
        evaluate(configure(*words, command="eval")[0])
    assert "eval.noise_levels: 0.05, 0.07 of the features are none" in caplog.text
    measured = [key for key in read_metrics(tmp_path / "run")["test"] if "masking" in key]
    assert measured == ["mse_masking_0", "mse_masking_0.5"]


def test_a_protocol_takes_classes_by_their_names(runs):
    words = (f"run={runs / 'rows'}", "eval.noise_levels=[]", "eval.pictures=false")
    evaluate(configure(*words, "eval.classes=[sunny,dry]", command="eval")[0])
    assert read_metrics(runs / "rows")["test"]["probe_error"] >= 0
    loaded = load(*find(str(runs / "rows")))
    names = loaded.labelled_data(["sunny", "dry"], None).splits["train"].labels.unique()
    assert loaded.data.names(names) == ["dry", "sunny"]
    with pytest.raises(SettingError, match=r"eval\.classes.*\[0\].*must be a list out of"):
        evaluate(configure(*words, "eval.classes=[0]", command="eval")[0])
