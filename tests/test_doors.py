"""What a stranger's file could make the command line do, tried by the commands themselves."""

import json
import os
import sys

import pytest
import yaml
from omegaconf import OmegaConf

from aecli import cli
from aecli.commands.compare import main as compare
from aecli.runs import records
from aecli.runs.checkpoint import stored_beside
from aecli.text import SafeFormatter
from tests.commands.made import make
from tests.conftest import CONF, configure
from tests.hostile import bounded, refusal

ACTS = "\x1b]0;owned\x07\x1b[2J\nforged line"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--experimental-rerun", "evil.pickle"],
        ["train", "--experimental-rerun=evil.pickle"],
        ["train", "--exp", "evil.pickle"],
        ["train", "model=ae", "--experimental-re=evil.pickle"],
        ["eval", "run=latest", "--experimental-rerun", "evil.pickle"],
    ],
    ids=" ".join,
)
def test_hydra_unpickles_no_file(monkeypatch, capsys, words, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["aecli", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith("aecli does not take it\n")


def gift(folder, **hydra):
    """Write a run that has no checkpoint yet, with settings of Hydra's own in `hydra.yaml`."""
    config, choices = configure("model=ae")
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(config))
    runtime = {"runtime": {"choices": choices | {"hydra/launcher": "basic"}}}
    (folder / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": runtime | hydra}))
    return folder


def test_of_a_runs_hydra_yaml_only_the_choices_are_read(tmp_path, monkeypatch):
    """A file can name no callback, no logger's class, no search path and no directory."""
    ran = tmp_path / "ran"
    evil = {"_target_": "os.mkdir", "path": str(ran)}
    found = stored_beside(
        gift(
            tmp_path / "gift",
            callbacks={"evil": evil},
            launcher=evil,
            sweeper=evil,
            searchpath=[f"file://{tmp_path}"],
            run={"dir": str(tmp_path / "elsewhere")},
            job_logging={"version": 1, "handlers": {"evil": {"()": "os.mkdir", "path": str(ran)}}},
        )
    )
    assert found.choices["model"] == "ae"
    assert "hydra" not in found.config
    assert [path.name for path in tmp_path.iterdir()] == ["gift"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "${oc.env:HOME}"),
        ("seed", "${oc.decode:'[1]'}"),
        ("seed", "x"),
        ("model", {"_target_": "os.mkdir", "path": "ran"}),
        ("noise", None),
        ("sweeper", {"storage": "sqlite:///planted.db", "unknown": 1}),
        ("trainer", "x"),
        ("unknown", 1),
    ],
    ids=str,
)
def test_a_run_that_is_no_run_cannot_be_resumed(tmp_path, monkeypatch, name, value):
    monkeypatch.chdir(tmp_path)
    run = gift(tmp_path / "gift")
    path = run / ".hydra" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(config | {name: value}))
    with bounded():
        assert refusal(stored_beside, run)
    assert [entry.name for entry in tmp_path.iterdir()] == ["gift"]


def test_nothing_that_a_run_says_acts_on_the_terminal_or_a_spreadsheet(
    tmp_path, monkeypatch, capsys, caplog
):
    monkeypatch.chdir(tmp_path)
    formula = "=cmd|' /C calc'!A0"
    html = "<script>alert(1)</script>|"
    make(tmp_path / "outputs", "a", 1.0, model=ACTS)
    make(tmp_path / "outputs", f"b{ACTS}".replace("/", "-"), 2.0, model=formula)
    make(tmp_path / "outputs", "c", 3.0, model=html, **{ACTS: 1.0, "[red]x": 2.0})
    (tmp_path / "outputs" / f"d{ACTS}" / ".hydra").mkdir(parents=True)
    (tmp_path / "outputs" / f"d{ACTS}" / ".hydra" / "config.yaml").touch()
    compare(["outputs", "--metric", "val/loss", "--output", "mine"])
    shown = "".join(capsys.readouterr()) + caplog.text
    assert shown.replace("\n", "").isprintable()
    assert "\nforged line" not in shown
    table = (tmp_path / "mine" / "table.md").read_text()
    assert "<script>" not in table
    assert "\x1b" not in table
    for line in (tmp_path / "mine" / "table.csv").read_text().splitlines():
        assert not any(cell.startswith("=") for cell in line.split(","))
        assert "\x1b" not in line


def test_a_formatter_of_the_log_that_hydra_configures_is_safe():
    for name in ("console", "run"):
        config = yaml.safe_load((CONF / "hydra" / "job_logging" / f"{name}.yaml").read_text())
        for formatter in config["formatters"].values():
            assert formatter["class"] == f"{SafeFormatter.__module__}.{SafeFormatter.__name__}"


@pytest.mark.parametrize("kind", ["pipe", "device", "bomb", "long", "numbers"])
def test_compare_leaves_a_trap_out_at_once(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "outputs", "a", 1.0)
    trap = make(tmp_path / "outputs", "b", 2.0)
    metrics, config = trap / "metrics.json", trap / ".hydra" / "config.yaml"
    if kind == "bomb":
        config.write_text("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]")
    elif kind == "long":
        config.write_text(f"model: {{beta: {'x' * 200_000}}}")
    elif kind == "numbers":
        metrics.write_text(json.dumps({"choices": {}, "val": {"loss": 10**400}}))
    else:
        metrics.unlink()
        os.mkfifo(metrics) if kind == "pipe" else metrics.symlink_to("/dev/zero")
    with bounded():
        assert [r.directory.name for r in records.read(records.find(["outputs"], tmp_path))] == [
            "a"
        ]
