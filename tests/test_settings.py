"""Every setting of every option, with values of every kind: a run that it changes, or one line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from omegaconf import OmegaConf

from aecli.overrides import WIRED, groups, options
from aecli.training.arguments import CHECKS
from tests.conftest import configure
from tests.typed import aecli

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
MANY += ("99999999999999999999", "ünï", "${no}")
TINY = ("trainer=debug", "pictures_every=0", "network.hidden=[8]", "dataset.train_size=64")
"""What makes a training take a tenth of a second."""


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
        if self.option == "network=conv":
            words = ["network.channels=[4]" if w.startswith("network") else w for w in words]
            words = [word for word in words if not word.startswith(f"{self.key}=")]
        if group == "pretraining" and self.option != "pretraining=none":
            words += ["model=ae", "network.activation=sigmoid", "likelihood=cross_entropy"]
            words += ["pretraining.epochs=1"] if self.key != "pretraining.epochs" else []
            words += ["sparsity=sigmoid"] if self.option == "pretraining=sparse" else []
        return [self.option, *words] if self.option else words


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
    for key in ("seed", "objective", "resume", "early_stopping.patience"):
        yield Setting("", key, OmegaConf.select(root, key))
    yield Setting("", "early_stopping.min_delta", 0.0)
    yield Setting("", "pictures_every", 5)


SETTINGS = list(settings())


def one_line(answer: Any, key: str) -> bool:
    name = key.lstrip("+")
    return (
        answer.err.startswith("aecli: ")
        and answer.err.count("\n") == 1
        and name in answer.err
        and answer.code in (1, 2)
    )


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s.option or 'root'}-{s.key}")
@pytest.mark.parametrize(
    "values", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_whatever_is_typed_there_is_a_run_or_one_line(setting, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in values:
        answer = aecli("train", *setting.around, f"{setting.key}={value}")
        line = f"{' '.join(setting.around)} {setting.key}={value}"
        assert answer.err == "" if answer.code == 0 else one_line(answer, setting.key), (
            line,
            answer,
        )


CONTEXT: dict[str, tuple[list[str], str]] = {
    "optimizer.eps": ([], "0.1"),
    "optimizer.steps": (["optimizer.schedule=steps", "optimizer.steps=[0.9]"], "[0.5]"),
    "optimizer.step_factor": (["optimizer.schedule=steps", "optimizer.steps=[0.5]"], "0.5"),
    "optimizer.history_size": ([], "1"),
    "optimizer.max_iter": ([], "2"),
    "optimizer.line_search_fn": ([], "null"),
    "network.hidden": ([], "[9]"),
    "sparsity.alpha": ([], "1.5"),
    "sparsity.momentum": ([], "0.9"),
    "sparsity.k_start": ([], "15"),
    "sparsity.anneal": (["sparsity.k_start=15"], "0.9"),
    "pretraining.batch_size": ([], "30"),
    "pretraining.momentum": (["pretraining.batch_size=20", "pretraining.epochs=3"], ""),
    "dataset.binarize": ([], "fixed"),
    "dataset.train_size": ([], "50"),
    "dataset.test_size": ([], "100"),
    "dataset.classes": ([], "[3,8]"),
    "early_stopping.patience": (["trainer.max_epochs=9", "optimizer.lr=0.5"], "1"),
    "early_stopping.min_delta": (["trainer.max_epochs=4", "early_stopping.patience=1"], "1000"),
    "trainer.gradient_clip_val": ([], "0.01"),
    "trainer.limit_train_batches": ([], "1"),
    "trainer.limit_val_batches": ([], "1"),
    "trainer.precision": ([], "bf16-mixed"),
    "+trainer.accumulate_grad_batches": ([], "2"),
    "+trainer.check_val_every_n_epoch": (["trainer.max_epochs=3"], "2"),
    "+trainer.gradient_clip_algorithm": (["trainer.gradient_clip_val=0.01"], "value"),
    "+trainer.min_epochs": (
        ["trainer.max_epochs=4", "early_stopping.patience=1", "early_stopping.min_delta=1000"],
        "3",
    ),
}
"""For settings whose effect shows beside others only, or at a value of its own: those, and that."""
NO_NUMBERS = {
    "dataset.root": "where the files are",
    "resume": "goes on with a run",
    "objective": "what a sweeper reads",
    "pictures_every": "pictures",
    "trainer.accelerator": "another device",
    "trainer.devices": "several processes",
    "trainer.strategy": "several processes",
    "+trainer.strategy": "several processes",
    "+trainer.num_nodes": "several processes",
    "trainer.deterministic": "the same on a processor",
    "+trainer.benchmark": "of a GPU's convolutions",
    "+trainer.detect_anomaly": "where a gradient is no number",
    "+trainer.max_time": "has a test below",
}
"""Settings that leave the numbers of a tiny training on a processor as they are, and why."""


def another(setting: Setting, words: list[str]) -> str:
    """Return a value that is allowed and not the one there is."""
    if value := CONTEXT.get(setting.key, ([], ""))[1]:
        return value
    value = setting.value
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int):
        return str(value + 1)
    if isinstance(value, float):
        return str(value / 2 or 0.5)
    if isinstance(value, list):
        return f"[{','.join(str(v + 1 if isinstance(v, int) else v / 2) for v in value)}]"
    told = aecli("train", *words, f"{setting.key}=abc").err
    allowed = told.partition("must be one of ")[2].strip().split(", ")
    return next(choice for choice in allowed if choice != value)


def outcome(words: list[str], output: str) -> dict[str, Any]:
    """Train; return the numbers that came out."""
    answer = aecli("train", *words, f"output_dir={output}")
    assert answer.code == 0, (words, answer.err)
    (path,) = Path(output).rglob("metrics.json")
    told = json.loads(path.read_text())
    return {key: told[key] for key in ("val", "epochs", "best_epoch", "parameters")}


@pytest.mark.parametrize(
    "setting",
    [setting for setting in SETTINGS if setting.key not in NO_NUMBERS],
    ids=lambda s: f"{s.option or 'root'}-{s.key}",
)
def test_a_setting_changes_what_comes_out(setting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    context = CONTEXT.get(setting.key, ([], ""))[0]
    kept = [
        w
        for w in setting.around
        if w.partition("=")[0] not in {c.partition("=")[0] for c in context}
    ]
    words = [*kept, *context]
    before = outcome(words, "before")
    words = [word for word in words if not word.startswith(f"{setting.key}=")]
    value = another(setting, words)
    assert outcome([*words, f"{setting.key}={value}"], "after") != before, value
