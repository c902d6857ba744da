"""`aecli runs`: what is listed, what is pruned, and what never is."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
import yaml

from aecli.commands import runs
from aecli.commands.runs import main
from aecli.errors import SettingError
from aecli.runs.listed import KEYS
from aecli.runs.paths import lock
from tests.commands.made import change
from tests.commands.made import make as make_finished


def make(folder, name, *, finished=True, epoch=True, failed=False, days=1.0):
    """Write a run's directory that was last changed some days ago."""
    run = make_finished(folder, name, 100.0)
    config = yaml.safe_load((run / ".hydra" / "config.yaml").read_text())
    config |= {key: config.get(key, "x") for key in KEYS} | {"trainer": {"max_epochs": 60}}
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    choices = {"model": "vae", "dataset": "digits"}
    hydra = {"hydra": {"runtime": {"choices": choices}}}
    (run / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(hydra))
    change(run, choices=choices, asked_epochs=60)
    (run / ".lock").touch()
    if not finished:
        (run / "metrics.json").unlink()
    if epoch:
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "last.ckpt").write_bytes(b"x" * 5000)
    if failed:
        (run / "error.txt").write_text("out of memory")
    for path in [*run.rglob("*"), run]:
        os.utime(path, (time.time() - days * 86_400,) * 2)
    return run


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "sweeps" / "now"
    make(folder, "0_done", days=40)
    make(folder, "1_half", finished=False, days=4)
    make(folder, "2_none", finished=False, epoch=False, days=3)
    make(folder, "3_failed", finished=False, failed=True, days=2)
    (folder / "multirun.yaml").write_text("{}")
    return folder


def lines(capsys, *words):
    main(words)
    return capsys.readouterr().out.splitlines()


def states(capsys, *words):
    return {line.split("/")[-1]: line for line in lines(capsys, *words)[1:-1]}


def test_it_lists_the_newest_first(outputs, capsys):
    head, *rows, total = lines(capsys)
    assert head.split() == ["model", "data", "set", "epochs", "val/loss", "size", "state", "run"]
    names = ["3_failed", "2_none", "1_half", "0_done"]
    assert [row.split("/")[-1] for row in rows] == names
    assert [re.sub(r"[\d.]+ k?B", "X", " ".join(row.split()[:-1])) for row in rows] == [
        "vae digits 0/60 – X failed",
        "vae digits 0/60 – X no epoch",
        "vae digits ?/60 – X resumable",
        "vae digits 3/60 100 X finished",
    ]
    assert total.startswith("4 runs, ")
    size = sum(path.stat().st_size for path in outputs.rglob("*/*") if path.is_file())
    assert float(total.split()[2]) == pytest.approx(size / 1000, rel=0.01)


def test_it_deletes_with_yes_only(outputs, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    for count, words in ((2, ["--prune"]), (3, ["--prune", "--older-than", "30"])):
        said = lines(capsys, *words)
        assert said[-1].startswith(f"would delete {count} of 4 runs, ")
        assert said[-1].endswith("; add --yes to do it")
        assert sorted(tmp_path.rglob("*")) == before
    assert "40 days old" in said[-2]
    assert lines(capsys, "--prune", "--yes")[-1].startswith("deleted: 2 runs, ")
    assert sorted(states(capsys)) == ["0_done", "1_half"]
    assert not (outputs / "2_none").exists()
    lines(capsys, "--prune", "--yes", "--older-than", "3.5")
    assert not outputs.exists()  # a sweep without runs goes, too


def test_what_is_in_progress_or_begins_stays(outputs, capsys):
    starting = make(outputs.parent / "other", "new", finished=False, epoch=False, days=0)
    with lock(outputs / "2_none", "trains it"), lock(outputs.parent / "other", "runs this sweep"):
        assert lines(capsys, "--prune", "--yes")[-1].startswith("deleted: 1 run, ")
        assert "running" in states(capsys)["2_none"]
        assert "running" in states(capsys)["new"]
    assert starting.exists()
    make(outputs, "4_failed", finished=False, failed=True)
    with lock(outputs, "runs this sweep"):
        assert lines(capsys, "--prune", "--yes")[-1].startswith("nothing to delete")


def test_a_run_that_is_taken_up_meanwhile_stays(outputs, capsys, monkeypatch):
    wanted = runs._reason_to_keep

    def slow(directory):
        held.enter_context(lock(directory, "trains it"))
        return wanted(directory)

    with ExitStack() as held:
        monkeypatch.setattr(runs, "_reason_to_keep", slow)
        said = lines(capsys, "--prune", "--yes")
    assert all("in progress" in line for line in said[:2])
    assert (outputs / "2_none" / ".hydra" / "config.yaml").exists()


def test_what_is_not_a_run_of_aecli_stays(outputs, tmp_path, capsys):
    other = make(tmp_path / "outputs" / "other-program", "12-30", finished=False, epoch=False)
    (other / ".hydra" / "config.yaml").write_text("model: x\nlr: 1")
    assert "12-30" not in states(capsys)
    alike = make(tmp_path / "outputs" / "other-program", "13-00", days=9)
    (alike / ".hydra" / "config.yaml").write_text("model: x\nlr: 1")
    os.utime(alike / ".hydra" / "config.yaml", (0, 0))
    (outputs / "3_failed" / "notes.txt").write_text("of years")
    said = lines(capsys, "--prune", "--yes", "--older-than", "0.0001")
    kept = "".join(line for line in said if line.startswith("kept"))
    assert "3_failed: has files that aecli has not made: notes.txt" in kept
    assert "13-00: its settings are not those of a run" in kept
    assert other.exists()
    assert (alike / "metrics.json").exists()
    assert (outputs / "3_failed" / "notes.txt").exists()


@pytest.mark.parametrize(
    "name",
    [
        "eval/notes.md",
        "checkpoints/mine.csv",
        "checkpoints/epoch.ckpt",
        "20240115/thesis.tex",
        "lab.log",
        "clock",
        "samples/mine/a.png",
        ".hydra/mine.yaml",
        "eval/figure_for_my_paper.png",
        "samples/favourites.npz",
        "train_notes.log",
        "events.txt",
    ],
)
def test_a_users_file_within_a_run_stays(outputs, capsys, name):
    mine = outputs / "3_failed" / name
    mine.parent.mkdir(exist_ok=True, parents=True)
    mine.write_text("of years")
    said = lines(capsys, "--prune", "--yes", "--older-than", "0.0001")
    assert any(f"3_failed: has files that aecli has not made: {name}" in line for line in said)
    assert mine.read_text() == "of years"
    assert not (outputs / "2_none").exists()


def test_nothing_behind_a_link_is_touched(outputs, tmp_path, capsys):
    mine = make(tmp_path / "mine", "run", finished=False, epoch=False, days=9)
    (tmp_path / "outputs" / "linked").symlink_to(tmp_path / "mine")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"of weeks")
    shutil.rmtree(outputs / "3_failed" / "checkpoints")
    (outputs / "3_failed" / "checkpoints").symlink_to(tmp_path / "checkpoints")
    (outputs / "3_failed" / "train.log").symlink_to(mine / ".hydra" / "config.yaml")
    (tmp_path / "link").symlink_to(mine)
    lines(capsys, "--prune", "--yes", "--older-than", "1")
    assert not (outputs / "3_failed").exists()
    assert "is a link" in lines(capsys, "link", "--prune", "--yes")[0]
    assert (mine / ".hydra" / "config.yaml").exists()
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == b"of weeks"


def test_a_strange_name_or_choice_ends_no_list(outputs, capsys):
    make(outputs.parent / "10²_notes", "①_run")
    (outputs / "1_half" / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {choices: vae}}")
    found = states(capsys)
    assert "①_run" in found
    assert "resumable" in found["1_half"]


def test_names_from_files_are_made_safe(outputs, capsys):
    change(outputs / "0_done", choices={"model": "\x1b[2Jvae", "dataset": "a\nb"})
    (outputs / "1_half").rename(outputs / "1\x1b[31m")
    printed = "\n".join(lines(capsys))
    assert "\x1b" not in printed
    assert "a\\nb" in printed
    (outputs / "0_done" / "metrics.json").write_text("{")
    assert "damaged" in states(capsys)["0_done"]
    assert "0_done" not in "".join(lines(capsys, "--prune", "--older-than", "1"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--yes"], "--yes: goes with --prune"),
        (["--older-than", "3"], "--older-than: goes with --prune"),
        (["--prune", "--older-than", "x"], "--older-than x: must be a number of days, above 0"),
        (["--prune", "--older-than", "nan"], "--older-than nan: must be a number of days"),
        (["nowhere"], "nowhere: no such folder"),
        (["--delete"], "unrecognized arguments: --delete"),
        (["run=latest"], "type the path of a run"),
    ],
)
def test_a_mistake_is_one_line(outputs, words, told):
    with pytest.raises(SettingError, match=told):
        main(words)


def test_without_outputs_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="no runs under outputs/"):
        main([])


def test_a_terminal_that_lacks_a_character_gets_another(outputs):
    words = [sys.executable, "-m", "aecli", "runs"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, cwd=outputs.parents[2], env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"? " in done.stdout
