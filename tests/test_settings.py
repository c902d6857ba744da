"""Every setting of every option, with values of every kind: a run that it changes, or one line."""

import atexit
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from inspect import signature
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pytest
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from PIL import Image

from aecli.options import groups, options
from aecli.overrides import WIRED
from aecli.training.arguments import CHECKS, NOT_LIGHTNINGS, REFUSED
from tests.commandline import aecli, is_one_line
from tests.conftest import DICTIONARIES, OF_DICTIONARIES, configure

FEW = ("abc", "-1", "null", "1e300")
MANY = (
    "0",
    "0.5",
    "true",
    "nan",
    "inf",
    "-inf",
    "''",
    "[]",
    "[1,2]",
    "[abc]",
    "{a:1}",
    "2147483647",
)
MANY += ("99999999999999999999", "ünï", "${no}", *FEW)
TURNS = int(os.environ.get("AECLI_VALUES", len(MANY)))
"""How many of the many values each setting gets; of the few it gets one. Others get others."""
LENGTHS = {
    "trainer.max_epochs",
    "optimizer.max_iter",
    "pretraining.epochs",
    "pretraining.iterations",
    "eval.probe.steps",
    "eval.importance_samples",
    "eval.gap_images",
    "eval.gradient_images",
    "eval.aggregate_images",
    "eval.generated_images",
    "importance_samples",
    "eval.finetune.max_epochs",
}
"""How long something goes on: a large number is no mistake, but no test either."""
TINY = ("trainer=debug", "pictures_every=0", "network.hidden=[8]", "dataset.train_size=64")
"""What makes a training take a tenth of a second."""


def cases(settings: Sequence[Any], name: Callable[[Any], str]) -> list[Any]:
    """Return settings with their values: a third of them fast tests, all of them slow ones."""
    few = [pytest.param(each, FEW, id=f"few-{name(each)}") for each in settings[::3]]
    many = [
        pytest.param(each, MANY, id=f"many-{name(each)}", marks=pytest.mark.slow)
        for each in settings
    ]
    return few + many


class Setting(NamedTuple):
    """A setting, and what to type so that a configuration has it."""

    option: str
    """Such as noise=masking; "" for a root key."""
    key: str
    """Such as noise.amount."""
    value: Any
    """As composed."""

    @property
    def around(self) -> list[str]:
        """The other words of a line that types it."""
        words = [word for word in TINY if not word.startswith(f"{self.key}=")]
        group = self.option.partition("=")[0]
        if group == "trainer":
            words[0] = "trainer.max_epochs=1"
        if self.option in ("network=conv", "network=resnet"):
            words = ["network.channels=[4]" if w.startswith("network") else w for w in words]
            words = [word for word in words if not word.startswith(f"{self.key}=")]
        if self.option == "dataset=images":
            words = ["network.channels=[4]" if w.startswith("network") else w for w in words]
            words += [f"dataset.root={photos()}"] if self.key != "dataset.root" else []
        if self.option == "dataset=array":
            words += [f"dataset.file={array()}"] if self.key != "dataset.file" else []
            words += ["dataset.key=x"] if self.key not in ("dataset.file", "dataset.key") else []
            words += ["dataset.labels=y"] if self.key == "dataset.classes" else []
        if self.option == "dataset=activations":
            words += [f"dataset.files={shard()}"] if self.key != "dataset.files" else []
            words += ["dataset.batch_size=20"] if self.key != "dataset.batch_size" else []
        if self.option == "dataset=synthetic_features":
            words = [word for word in words if not word.startswith("dataset.")]
            words += [word for word in DRAWN if not word.startswith(f"{self.key}=")]
        if self.option in ("dataset=table", "likelihood=mixed"):
            words += ["dataset=table"] if group == "likelihood" else []
            words += [f"dataset.file={table()}"] if self.key != "dataset.file" else []
        if group == "pretraining" and self.option != "pretraining=none":
            words += ["model=ae", "network.activation=sigmoid", "likelihood=cross_entropy"]
            words += ["pretraining.epochs=1"] if self.key != "pretraining.epochs" else []
            words += ["sparsity=sigmoid"] if self.option == "pretraining=sparse" else []
        if self.option in OF_A_DICTIONARY:  # which has no hidden layers
            words = [word for word in words if not word.startswith("network.")]
            words += ["model=topk_sae"] if group == "sparsity" else []
        return [self.option, *words] if self.option else words


DRAWN = (
    "dataset.true_features=90",
    "dataset.width=6",
    "dataset.trees=1",
    "dataset.rows=60",
    "dataset.validation_size=50",
    "dataset.batch_size=20",
)
"""A small known dictionary, and few rows."""
OF_A_DICTIONARY = {f"sparsity={name}" for name in OF_DICTIONARIES}
OF_A_DICTIONARY |= {f"model={name}" for name in DICTIONARIES}


@cache
def photos() -> Path:
    """Return a folder of 200 pictures of 8×8 with transparency, in four folders."""
    atexit.register(shutil.rmtree, folder := Path(mkdtemp()))
    draw = np.random.default_rng(0)
    for number in range(200):
        path = folder / "38ab"[number % 4] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8, 4), np.uint8)).save(path)
    return folder


@cache
def array() -> Path:
    """Return a file of 200 rows of 6 numbers, and their labels."""
    atexit.register(shutil.rmtree, folder := Path(mkdtemp()))
    rows = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    np.savez(folder / "array.npz", x=rows, y=np.arange(200) % 5)
    return folder / "array.npz"


@cache
def shard() -> Path:
    """Return a file of 500 rows of 6 activations."""
    atexit.register(shutil.rmtree, folder := Path(mkdtemp()))
    np.save(folder / "acts.npy", np.random.default_rng(0).normal(size=(500, 6)).astype(np.float16))
    return folder / "acts.npy"


@cache
def table() -> Path:
    """Return a table of 200 rows, with a column of numbers and one of categories."""
    atexit.register(shutil.rmtree, folder := Path(mkdtemp()))
    rows = [f"{number / 7:.3f},{'xyz'[number % 3]}" for number in range(200)]
    (folder / "table.csv").write_text("\n".join(["a,b", *rows]))
    return folder / "table.csv"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """Keep what is decoded away from the user's cache."""
    monkeypatch.setattr("aecli.data.picture_cache.data_root", lambda root: tmp_path / "cache")


def leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        key = f"{path}.{name}" if path else name
        if not name.startswith("_") and key not in WIRED:
            if isinstance(value, dict):
                yield from leaves(value, key)
            else:
                yield key, value


def settings() -> Iterator[Setting]:
    """Return each setting once, though several options may have it from the same base."""
    seen = set()
    root, _ = configure()
    for group in groups():
        if group in ("eval", "experiment", "launcher", "sweeper"):
            continue
        for name in options(group):
            node = OmegaConf.to_container(configure(f"{group}={name}")[0], resolve=False)[group]
            for key, value in leaves(node, group):
                kind = (node["_target_"], key)
                if kind not in seen:
                    seen.add(kind)
                    yield Setting(f"{group}={name}", key, value)
    for name in sorted(set(CHECKS) - set(root.trainer)):
        yield Setting("trainer=auto", f"+trainer.{name}", None)
    for key in ("seed", "objective", "resume", "plugins", "early_stopping.patience"):
        yield Setting("", key, OmegaConf.select(root, key))
    yield Setting("", "early_stopping.min_delta", 0.0)
    yield Setting("", "pictures_every", 5)


SETTINGS = list(settings())


def one_line(answer: Any, key: str) -> bool:
    # A run is looked for in output_dir; pictures of an odd size are the network's to refuse.
    elsewhere = {"output_dir": ["run=latest"], "dataset.size": ["network=conv"]}
    names = [key.lstrip("+"), *elsewhere.get(key, [])]
    return is_one_line(answer) and any(name in answer.stderr for name in names)


def check(command: str, words: list[str], key: str, values: Sequence[str], cwd: Path) -> None:
    """Require of each value a run that says nothing on stderr, or one line that names the key."""
    first = crc32(key.encode())
    for turn in range(1 if values is FEW else TURNS):
        value = values[(first + turn) % len(values)]
        if key in LENGTHS and value == "2147483647":
            continue  # taken at its word
        answer = aecli(command, *words, f"{key}={value}", cwd=cwd)
        is_run = answer.returncode == 0 and answer.stderr == ""
        assert is_run or one_line(answer, key), (answer.args, answer.stdout, answer.stderr)


@pytest.mark.parametrize(
    ("setting", "values"), cases(SETTINGS, lambda s: f"{s.option or 'root'}-{s.key}")
)
def test_a_training_is_a_run_or_one_line(setting, values, tmp_path):
    check("train", setting.around, setting.key, values, tmp_path)


CHEAP = ("eval.protocol=none", "eval.pictures=false", "eval.importance_samples=0")
FILE = ("out=x.csv", "overwrite=true")
OF_A_RUN = [
    *(("encode", key, FILE) for key in ("run", "out", "overwrite", "batch_size", "device")),
    *(("encode", f"dataset.{key}", FILE) for key in ("root", "file", "id", "labels", "key")),
    ("decode", "codes", FILE),
    *(("data", key, ("out=x.png", "overwrite=true")) for key in ("out", "overwrite")),
    *(
        ("score", key, (*FILE, f"kind={kind}"))
        for key, kind in {
            "kind": "elbo",
            "quantile": "elbo",
            "normal": "mse",
            "per_feature": "mse",
            "seed": "nll",
            "neighbors": "knn",
            "importance_samples": "marginal_nll",
        }.items()
    ),
    *(("eval", f"eval.{key}", CHEAP) for key, _ in leaves(configure(command="eval")[0].eval, "")),
    *(
        ("eval", key, CHEAP)
        for key in ("run", "output_dir", "device", "seed", "plugins", "dataset.root")
    ),
    *(
        ("sample", key, (f"kind={kind}",))
        for key, kind in {
            "run": "prior",
            "device": "prior",
            "seed": "prior",
            "plugins": "prior",
            "dataset.root": "prior",
            "kind": "prior",
            "n": "prior",
            "density": "prior",
            "steps": "manifold",
            "span": "traverse",
            "images": "traverse",
            "classes": "interpolate",
        }.items()
    ),
]
"""The settings of the commands that take a run: command, key, words around it."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train a model; return the folder that it lies under."""
    folder = tmp_path_factory.mktemp("trained")
    done = aecli("train", *TINY, "model.code_dim=2", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("of_a_run", "values"), cases(OF_A_RUN, lambda c: f"{c[0]}-{c[1]}"))
def test_a_command_on_a_run_is_done_or_one_line(of_a_run, values, trained):
    command, key, around = of_a_run
    words = list(around)
    if key.startswith("eval.finetune") or key in ("eval.classes", "eval.train_size"):
        words = [*words[1:], "eval.protocol=finetune", "eval.finetune.max_epochs=1"]
    elif key.startswith("eval.probe"):
        words = [*words[1:], "eval.protocol=probe"]
    elif key.startswith("eval.ais"):
        words = [*words, "eval.ais.steps=2"]
    words = [word for word in words if not word.startswith(f"{key}=")]
    check(command, words, key, values, trained)


def test_max_time_ends_a_run_with_an_epoch(tmp_path):
    words = ("trainer.max_epochs=100000", "pictures_every=0", "+trainer.max_time=00:00:00:01")
    done = aecli("train", "network.hidden=[8]", "dataset.train_size=64", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.rglob("metrics.json")
    assert 1 <= json.loads(path.read_text())["epochs"] < 2000


@pytest.mark.parametrize("option", ["network.batch_norm=true", "model=sparse_ae", "model=pca"])
def test_a_last_batch_of_one_image_joins_the_one_before_it(option, tmp_path):
    done = aecli("train", *TINY, option, "dataset.batch_size=63", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_argument_of_the_trainer_is_checked_or_refused():
    arguments = set(signature(Trainer.__init__).parameters) - {"self"}
    assert set(CHECKS) - set(NOT_LIGHTNINGS) | set(REFUSED) == arguments
    assert not set(CHECKS) & set(REFUSED)


@pytest.mark.slow
def test_wiring_is_what_conf_fills_in_from_other_settings():
    wired = set()
    for group in groups():
        for name in options(group) if group not in ("eval", "experiment") else ():
            config, _ = configure(f"{group}={name}")
            node = OmegaConf.to_container(config, resolve=False)
            wired |= {
                f"{part}.{key}"
                for part, inside in node.items()
                if isinstance(inside, dict)
                for key, value in inside.items()
                if str(value).startswith("${")
                and not str(value).startswith(("${oc.env", "${code_dim", "${dictionary_lr"))
            }
    found = {"dataset.shape", "dataset.target_shape", "dataset.source", "dataset.features"}
    assert wired == set(WIRED) - found


def test_flags_may_stand_anywhere(tmp_path):
    words = ("trainer=debug", "-m", "model.code_dim=2,3", *TINY[1:])
    assert aecli("train", *words, cwd=tmp_path).returncode == 0
    assert len(list(tmp_path.rglob("metrics.json"))) == 2
    told = aecli("train", "--cfg", "job", "model=ae", cwd=tmp_path).stdout
    assert told == aecli("train", "model=ae", "--cfg", "job", cwd=tmp_path).stdout
    assert "aecli.models.Autoencoder" in told


@pytest.mark.parametrize("line", ["kind=prior n=1000000000", "kind=manifold steps=100000000"])
def test_more_images_than_there_is_memory_for_are_refused(line, trained):
    done = aecli("sample", *line.split(), cwd=trained)
    assert done.returncode == 1
    assert "of memory, and there are" in done.stderr
