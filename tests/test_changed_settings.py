"""Every setting of a training changes what comes out of it, or is listed with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import aecli
from tests.test_settings import SETTINGS, Setting

FEW_ROWS = ["dataset.batch_size=20", "trainer.max_epochs=3"]
"""Several steps."""
CONTEXT: dict[str, tuple[list[str], str]] = {
    "model.code_dim": ([], "64"),
    "model.dead_after": (FEW_ROWS, "20"),
    "model.aux_weight": ([*FEW_ROWS, "model.dead_after=20"], "0.5"),
    "model.aux_k": ([*FEW_ROWS, "model.dead_after=20"], "2"),
    "sparsity.shares": ([], "[0.25,0.5,1]"),
    "sparsity.warmup": (FEW_ROWS, "0.9"),
    "optimizer.eps": ([], "0.1"),
    "optimizer.steps": (["optimizer.schedule=steps", "optimizer.steps=[0.9]"], "[0.5]"),
    "optimizer.decay": (["optimizer.schedule=trapezoid", "trainer.max_epochs=3"], "0.9"),
    "optimizer.step_factor": (["optimizer.schedule=steps", "optimizer.steps=[0.5]"], "0.5"),
    "optimizer.history_size": ([], "1"),
    "optimizer.max_iter": ([], "2"),
    "optimizer.line_search_fn": ([], "null"),
    "network.channels": ([], "[9]"),
    "network.hidden": ([], "[9]"),
    "network.init": ([], "glorot"),
    "network.output_bias": ([], "data"),
    "sparsity.alpha": ([], "1.5"),
    "sparsity.momentum": ([], "0.9"),
    "sparsity.k_start": ([], "15"),
    "sparsity.anneal": (["sparsity.k_start=15"], "0.9"),
    "pretraining.batch_size": ([], "30"),
    "pretraining.momentum": (["pretraining.batch_size=20", "pretraining.epochs=3"], ""),
    "dataset.background": ([], "black"),
    "dataset.batch_size": ([], "20"),
    "dataset.binarize": ([], "fixed"),
    "dataset.binarize_seed": (["likelihood=bernoulli"], ""),
    "dataset.channels": ([], "grey"),
    "dataset.resize": (["dataset.size=[4,6]"], "pad"),
    "dataset.size": ([], "4"),
    "dataset.validation_size": ([], "30"),
    "dataset.train_size": ([], "50"),
    "dataset.test_size": ([], "100"),
    "dataset.classes": ([], "[3,8]"),
    "early_stopping.patience": (["trainer.max_epochs=9", "optimizer.lr=0.5"], "1"),
    "early_stopping.min_delta": (["trainer.max_epochs=4", "early_stopping.patience=1"], "1000"),
    "trainer.average": ([], "0.9"),
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
    "dataset.labels": "beside the numbers",
    "dataset.root": "where the files are",
    "resume": "goes on with a run",
    "objective": "what a sweeper reads",
    "pictures_every": "pictures",
    "plugins": "has tests of its own",
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
READ_ELSEWHERE = (
    "dataset=activations",
    "dataset=array",
    "dataset=synthetic_features",
    "dataset=table",
)
"""What their settings change is tested where files are read: in tests/data/."""


def another(setting: Setting, words: list[str], cwd: Path) -> str:
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
    told = aecli("train", *words, f"{setting.key}=abc", cwd=cwd).stderr
    allowed = told.partition("must be one of ")[2].strip().split(", ")
    return next(choice for choice in allowed if choice != value)


def outcome(words: list[str], cwd: Path) -> dict[str, Any]:
    """Train; return the numbers that came out."""
    cwd.mkdir()
    answer = aecli("train", *words, cwd=cwd)
    assert answer.returncode == 0, (words, answer.stderr)
    (path,) = cwd.rglob("metrics.json")
    told = json.loads(path.read_text())
    return {key: told[key] for key in ("val", "epochs", "best_epoch", "parameters")}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """Keep what is decoded away from the user's cache."""
    monkeypatch.setattr("aecli.data.picture_cache.data_root", lambda root: tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [s for s in SETTINGS if s.key not in NO_NUMBERS and s.option not in READ_ELSEWHERE],
    ids=lambda s: f"{s.option or 'root'}-{s.key}",
)
def test_a_setting_changes_what_comes_out(setting, tmp_path):
    context = CONTEXT.get(setting.key, ([], ""))[0]
    replaced = {word.partition("=")[0] for word in context}
    words = [w for w in setting.around if w.partition("=")[0] not in replaced] + context
    before = outcome(words, tmp_path / "before")
    words = [word for word in words if not word.startswith(f"{setting.key}=")]
    value = another(setting, words, tmp_path)
    assert outcome([*words, f"{setting.key}={value}"], tmp_path / "after") != before, value
