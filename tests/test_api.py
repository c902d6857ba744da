"""The Python face: `aecli.train`, `aecli.load`, and the methods of a loaded model."""

import doctest
import logging
import random
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image

import aecli
from aecli.api import of_run
from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.evaluation import scores
from aecli.runs.find import find
from aecli.runs.load import load
from tests.conftest import configure

REPOSITORY = Path(__file__).parents[1]
TINY = ("trainer=debug", "network.hidden=[8]", "pictures_every=0")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Train two tiny runs in a sweep's folder."""
    root = tmp_path_factory.mktemp("work") / "outputs"
    for number in range(2):
        directory = root / "sweeps" / "one" / str(number)
        config, choices = configure(*TINY)
        train(config, directory, choices)
        (directory / ".hydra").mkdir(exist_ok=True)
        (directory / ".hydra" / "config.yaml").touch()
    return root


def test_the_example_of_the_package_runs(outputs, monkeypatch):
    monkeypatch.chdir(outputs.parent)
    names = {"examples": np.zeros((3, 1, 8, 8))}
    (example,) = doctest.DocTestFinder(recurse=False).find(aecli, "aecli", globs=names)
    assert doctest.DocTestRunner().run(example, clear_globs=False).attempted == 3
    codes, model = example.globs["codes"], example.globs["run"].model
    assert codes.shape == (3, model.code_dim)
    assert not model.training


def test_a_model_is_made_of_a_run_whose_data_was_read_already(outputs, monkeypatch):
    loaded = load(find(str(outputs / "sweeps" / "one" / "0"))[0])
    assert loaded.data.splits
    monkeypatch.setattr("aecli.api.load", lambda *_, **__: loaded)
    assert of_run(loaded.run, "cpu").directory == loaded.run.directory


def test_activations_that_were_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("acts", "moved"):
        (tmp_path / folder).mkdir()
        rows = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
        np.save(tmp_path / folder / "0.npy", rows)
    words = ("dataset=activations", "dataset.files=acts/*.npy", "model.code_dim=12")
    aecli.train(
        "model=topk_sae", *words, "sparsity.k=3", "dataset.batch_size=64", "trainer.max_epochs=1"
    )
    (tmp_path / "acts" / "0.npy").unlink()
    run = aecli.load("latest", files="moved/*.npy")
    assert len(run.data.splits["test"]) > 0
    with pytest.raises(SettingError, match=r"dataset\.file=x\.csv: .* it has dataset\.files"):
        aecli.load("latest", file="x.csv")


def test_the_names_of_the_package_are_those_that_it_says():
    assert sorted(dir(aecli)) == sorted([*aecli.__all__, "__version__"])
    assert all(hasattr(aecli, name) for name in aecli.__all__)
    assert issubclass(aecli.SettingError, Exception)


def test_a_directory_and_a_checkpoint_are_the_same_run(outputs):
    directory = outputs / "sweeps" / "one" / "1"
    first = aecli.load(str(directory))
    second = aecli.load(str(directory / "checkpoints" / "best.ckpt"), device="cpu")
    assert first.choices["model"] == "vae"
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name])


def test_a_sweep_is_no_run(outputs):
    with pytest.raises(SettingError, match="is a sweep of 2 runs; name one of them"):
        aecli.load(str(outputs / "sweeps" / "one"))


def test_importing_it_imports_no_torch():
    code = "import sys, aecli; sys.exit(bool({'torch', 'lightning', 'hydra'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_is_imported_in_the_folder_above_a_clone_of_its_name(tmp_path):
    """There the clone is no package, and must not be taken for one without a name space's files."""
    (tmp_path / "aecli").symlink_to(REPOSITORY)
    code = "import aecli, aecli.conf; print(aecli.__version__)"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == f"{aecli.__version__}\n", done.stderr


@pytest.fixture(scope="module")
def digits(outputs):
    return aecli.load(outputs / "sweeps" / "one" / "0", device="cpu")


@pytest.fixture(scope="module")
def pixels(digits):
    return digits.data.splits["test"].values[:1100]


def own(run, stored):
    """Return the codes and the reconstructions that the module makes of stored examples."""
    x = run.card.scaled(stored)
    return run.model.encode(x), run.card.restored(run.model.reconstruct(x))


def test_it_says_what_it_is(digits):
    assert repr(digits).startswith("Model(model=vae, dataset=digits, run=")


def test_an_array_goes_in_and_comes_out(digits, pixels):
    codes, made = own(digits, pixels)
    z = digits.encode(pixels.numpy())
    np.testing.assert_allclose(z, codes, atol=1e-6)
    assert z.dtype == np.float32
    reconstruction = digits.reconstruct(pixels.numpy())
    assert reconstruction.dtype == np.uint8
    np.testing.assert_array_equal(reconstruction, made)
    np.testing.assert_array_equal(digits.decode(z), made)


def test_a_tensor_goes_in_and_comes_out(digits, pixels):
    codes, made = own(digits, pixels)
    for out, wanted in (
        (digits.encode(pixels), codes),
        (digits.reconstruct(pixels), torch.from_numpy(made)),
        (digits.decode(codes), torch.from_numpy(made)),
    ):
        assert isinstance(out, torch.Tensor)
        torch.testing.assert_close(out, wanted)
    assert digits.score(pixels).shape == (len(pixels),)


def test_a_tensor_of_bfloat16_is_taken(digits, pixels):
    x = torch.as_tensor(pixels)
    np.testing.assert_array_equal(digits.encode(x.bfloat16()), digits.encode(x.float()))


def test_samples_come_in_the_units_of_the_data(digits):
    torch.manual_seed(0)
    first = digits.sample(3)
    torch.manual_seed(0)
    assert first.shape == (3, 1, 8, 8)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, digits.sample(3))
    assert digits.sample(5, density="gaussian").shape == (5, 1, 8, 8)


@pytest.mark.parametrize("kind", ["elbo", "nll", "marginal_nll", "mse", "mahalanobis"])
def test_a_score_is_of_the_example_alone(kind, digits, pixels, monkeypatch):
    """Not of its place, of those beside it, or of how many are scored at once."""
    x = pixels[:150]
    whole = digits.score(x, kind)
    assert whole.std() > 0
    alike = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(digits.score(x.flip(0), kind).flip(0), whole, **alike)
    for place in (7, 63, 64, 149):
        alone = digits.score(x[place : place + 1], kind)
        torch.testing.assert_close(alone, whole[place : place + 1], **alike)
    monkeypatch.setattr("aecli.api.AT_ONCE", 37)
    monkeypatch.setattr(scores, "DECODED_AT_ONCE", 10)
    torch.testing.assert_close(digits.score(x, kind), whole, **alike)


def test_a_score_is_that_of_the_command(digits, pixels):
    elbo, mse = digits.score(pixels), digits.score(pixels, kind="mse")
    x = digits.card.scaled(pixels)
    error = (digits.model.reconstruct(x) - x).square().flatten(1).mean(1)
    torch.testing.assert_close(mse, error)
    assert not torch.allclose(elbo, mse)
    with pytest.raises(SettingError, match="kind=no: must be one of mse"):
        digits.score(pixels, kind="no")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 1, 9, 9), np.uint8), r"the images are \[1, 9, 9\]"),
        (np.zeros((0, 1, 8, 8), np.uint8), "x: must have examples"),
        (np.full((2, 1, 8, 8), np.nan), "x: has 128 numbers that are not finite"),
        (np.full((2, 1, 8, 8), 1e300), "x: has 128 numbers that .* too large for float32"),
        (np.array([["a"]]), "x: holds <U1; must hold numbers"),
        (5, "x: must have examples"),
        ("digits.png", r"the run was trained on dataset=digits, which no other"),
    ],
    ids=["shape", "empty", "nan", "large", "text", "scalar", "path"],
)
def test_examples_that_do_not_go_with_the_run_are_refused(digits, x, message):
    with pytest.raises(SettingError, match=message):
        digits.encode(x)


def test_what_does_not_fit_the_card_is_named_as_it_was_given(digits, pixels, monkeypatch):
    def refuse(self, values):
        raise SettingError("dataset.file: holds booleans")

    monkeypatch.setattr(type(digits), "given_data", refuse)
    with pytest.raises(SettingError, match=r"^x: holds booleans"):
        digits.encode(pixels)


def test_codes_of_another_size_are_refused(digits):
    with pytest.raises(SettingError, match=r"z: is of shape \(2, 3\); must be \(N, 20\)"):
        digits.decode(np.zeros((2, 3)))


def trained(*words):
    return aecli.train(*TINY, *words, device="cpu")


def test_a_training_leaves_this_process_as_it_was(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def state():
        return (
            random.getstate()[1][:3],
            torch.get_rng_state().tolist()[:9],
            signal.getsignal(signal.SIGINT),
            signal.getsignal(signal.SIGTERM),
            list(warnings.filters),
            warnings.showwarning,
            logging.raiseExceptions,
            [(logging.getLogger(n).level, logging.getLogger(n).handlers) for n in LOGGERS],
            GlobalHydra.instance().hydra,
            HydraConfig.instance().cfg,
        )

    before = state()
    run = trained("model=ae")
    assert state() == before
    logging.captureWarnings(True)  # does nothing if somebody has and has not taken it back
    assert warnings.showwarning.__module__ == "logging"
    logging.captureWarnings(False)
    assert run.directory.parent == tmp_path / "outputs" / "ae-digits"
    assert {path.name for path in (run.directory / ".hydra").iterdir()} == {
        "config.yaml", "hydra.yaml", "overrides.yaml"
    }  # fmt: skip
    assert "done: 1 epoch " in (run.directory / "train.log").read_text()
    assert run.directory == aecli.load("latest").directory.absolute()


LOGGERS = ("aecli", "py.warnings", "lightning", "lightning.pytorch")


@pytest.mark.slow
def test_trainings_follow_one_another_and_in_threads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with initialize_config_module("aecli.conf", version_base="1.3"):
        first = trained("model=ae", "seed=1")
        assert compose("eval").run == "latest"  # the Hydra of a user's own goes on
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(trained("model=ae", "seed=1")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.directory for run in [first, *found]}) == 3
    for run in found:
        for name, weight in first.model.state_dict().items():
            assert torch.equal(weight, run.model.state_dict()[name])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=nope"], "model=nope: must be one of ae"),
        (["-m", "model=ae"], "-m: is a flag of the command line"),
        (["model.beta=x"], r"model\.beta=x: must be a number"),
        (["model.beta=-1"], r"model\.beta=-1: must be"),
        (["trainer=ddp"], "aecli.train is one process with one device"),
        (["trainer.devices=2"], "aecli.train is one process with one device"),
        ([5], "5: must be a text"),
        (["resume=nowhere"], "resume=nowhere: no such directory"),
    ],
    ids=str,
)
def test_a_mistake_is_the_line_of_the_command_and_leaves_nothing(
    tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=message):
        aecli.train(*words)
    assert not list(tmp_path.glob("outputs/*/*"))
    assert not HydraConfig.initialized()


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Return a run on a folder of pictures, and the folder."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(20):
        image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        image.save(folder / f"{number:02d}.png")
    cache, words = folder.parent / "cache", ("dataset=images", "network.channels=[4]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        words += (f"dataset.root={folder}", f"output_dir={folder.parent}")
        yield aecli.train("trainer=debug", "pictures_every=0", *words, device="cpu"), folder


def test_a_folder_goes_in_and_pixels_come_out(squares):
    run, folder = squares
    pixels = np.stack(
        [np.asarray(Image.open(file)).transpose(2, 0, 1) for file in sorted(folder.glob("*.png"))]
    )
    np.testing.assert_allclose(run.encode(folder), run.encode(pixels), atol=1e-6)
    made = run.reconstruct(folder)
    assert (made.shape, made.dtype) == ((20, 3, 8, 8), np.uint8)
    np.testing.assert_array_equal(made, run.reconstruct(pixels))


def test_an_example_without_a_finite_score_is_named(digits, pixels):
    far = np.where(np.arange(3)[:, None, None, None] == 1, 3e38, pixels[:3].double().numpy())
    for kind in ("mse", "knn", "mahalanobis"):
        with pytest.raises(SettingError, match=f"kind={kind}: example 1 has no finite score"):
            digits.score(far, kind)
