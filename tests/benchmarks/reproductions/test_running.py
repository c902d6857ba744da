"""What the script runs, resumes and keeps."""

import json
import shutil
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from aecli.commands.train import train
from aecli.runs.metrics_file import read_metrics
from aecli.runs.paths import CONFIG
from benchmarks.reproductions import __main__ as script
from benchmarks.reproductions import running
from benchmarks.reproductions.evaluating import evaluate_again
from benchmarks.reproductions.results import read, result_path
from benchmarks.reproductions.rows import ROWS
from benchmarks.reproductions.settings import differences, of_experiment, of_run
from tests.benchmarks.reproductions.made import keep, run
from tests.conftest import configure

NAME = "hinton2006/pca"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Return a folder for results; runs go to another one, both of this test alone."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


@pytest.fixture
def folder(results):
    return running.seed_folder(NAME, 0)


@pytest.fixture
def typed(monkeypatch, folder):
    """Return the list of what is started; each of them ends at once, as a finished run."""
    typed = []

    def start(command, **keywords):
        typed.append(command[3:])
        made = run(folder, NAME, date=f"2026-02-0{len(typed)}")

        class Done:
            returncode = 0

        assert made.exists()
        return Done()

    monkeypatch.setattr(running.subprocess, "run", start)
    monkeypatch.setattr(running, "current_commit", lambda: "0123abc")
    return typed


def started(results):
    settings, _ = of_experiment(NAME)
    assert running.run(NAME, 0, settings, results, jobs=2) == 0
    return read(results, NAME, 0)


def test_what_is_missing_is_run_and_its_result_is_kept(results, folder, typed):
    result = started(results)
    assert typed == [["train", f"experiment={NAME}", "seed=0", f"output_dir={folder}"]]
    assert result["here"] == 13.9
    assert result["commit"] == "0123abc"
    started(results)
    assert len(typed) == 1  # a run is paid for once


def test_what_is_stale_is_run_again(results, folder, typed):
    keep(results, NAME, 0, 12.0, of_experiment(NAME)[0] | {"model.code_dim": 31})
    run(folder, NAME, "model.code_dim=31")
    assert started(results)["date"] == "2026-02-01"
    assert typed[0][1] == f"experiment={NAME}"  # nor does the old run go on


def test_a_run_that_was_killed_goes_on(results, folder, typed):
    run(folder, NAME, "model.code_dim=31", date="2026-01-02", ended=False)  # of other settings
    killed = run(folder, NAME, ended=False)
    (folder / running.COMMIT).write_text("aaa")
    assert started(results)["commit"] == "aaa then 0123abc"
    assert typed == [["train", f"resume={killed}"]]


def test_a_run_that_was_evaluated_otherwise_is_evaluated_again(results, folder, typed):
    before = run(folder, NAME, "eval.importance_samples=7")
    started(results)
    assert typed == [[NAME, str(before)]]  # and not trained
    assert read(results, NAME, 0)["commit"] == "unknown then 0123abc"
    run(folder, NAME, "eval.importance_samples=7", "model.code_dim=31", date="2026-03-01")
    keep(results, NAME, 0, 12.0, {})
    for unlike in folder.glob("*/2026-0[12]*"):
        shutil.rmtree(unlike)
    started(results)
    assert typed[1][1] == f"experiment={NAME}"  # another model is trained


def test_an_evaluation_again_says_what_the_run_was_measured_by(mnist, tmp_path, monkeypatch):
    overrides = f"experiment={NAME}", "eval.batch_size=400", "eval.checkpoint=last"
    monkeypatch.setenv("AECLI_DATA", str(mnist))
    config, choices = configure(*overrides)
    (tmp_path / CONFIG).parent.mkdir()
    OmegaConf.save(config, tmp_path / CONFIG)
    train(config, tmp_path, choices)
    evaluate_again(NAME, tmp_path)
    metrics = read_metrics(tmp_path)
    assert metrics["test"]["checkpoint"] == "best.ckpt"
    assert metrics["experiment"]["here"] == pytest.approx(13.87, abs=0.02)
    assert metrics["experiment"]["changed"] == []
    assert not list(differences(of_run(tmp_path), of_experiment(NAME)[0]))


def test_a_run_that_was_finished_otherwise_is_kept(results, folder, typed):
    run(folder, NAME)
    result = started(results)
    assert typed == []
    assert result["here"] == 13.9
    assert result["commit"] is None


def test_a_changed_run_replaces_no_result(results, folder):
    settings, _ = of_experiment(NAME)
    run(folder, NAME, "model.code_dim=31")
    running.keep_finished(NAME, 0, results, settings)
    assert read(results, NAME, 0)["changed"] == ["model.code_dim=31"]
    keep(results, NAME, 0, 12.0, settings | {"model.code_dim": 32})
    running.keep_finished(NAME, 0, results, settings)
    assert read(results, NAME, 0)["here"] == 12.0
    run(folder, NAME, date="2025-01-01")  # older, but as the experiment is now
    running.keep_finished(NAME, 0, results, settings)
    assert read(results, NAME, 0)["date"] == "2025-01-01"


def test_a_run_that_fails_leaves_no_result(results, monkeypatch):
    class Failed:
        returncode = 1

    monkeypatch.setattr(running, "current_commit", lambda: None)
    monkeypatch.setattr(running.subprocess, "run", lambda *words, **keywords: Failed())
    assert running.run(NAME, 0, of_experiment(NAME)[0], results, jobs=2) == 1
    assert not result_path(results, NAME, 0).exists()


def git(folder, *words):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def test_the_commit_says_whether_the_code_was_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "REPOSITORY", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert running.current_commit() is None
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.yaml").touch()
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = running.current_commit()
    assert len(commit) == 40
    (tmp_path / "other").touch()  # such as a result
    assert running.current_commit() == commit
    (tmp_path / "conf" / "b.yaml").touch()
    assert running.current_commit() == f"{commit} (changed)"
    monkeypatch.setenv("PATH", "")
    assert running.current_commit() is None


def test_names():
    assert script.named("burda2015/vae") == ["burda2015/vae"]
    assert script.named("hinton2006/deep") == [
        "hinton2006/deep_ae",
        "hinton2006/deep_ae_batch_norm",
    ]
    assert script.named("") == list(ROWS)


def test_an_unknown_experiment_lists_the_known_ones():
    command = [sys.executable, "-m", "benchmarks.reproductions", "nonsense"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=running.REPOSITORY)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("nonsense: no such experiment; must be one of hinton2006/pca, ")
    assert all(name in line for name in ROWS)


def test_the_page_alone_is_written_without_a_run(results, folder, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{script.table.START}\nold\n{script.table.END}\nafter\n")
    monkeypatch.setattr(script, "PAGE", page)
    monkeypatch.setattr(script, "RESULTS", results)
    run(folder, NAME)
    script.main([NAME, "--table"])
    text = page.read_text()
    assert "| `hinton2006/pca` | sse | 13.87 (read) | ≤ 13.89: missed so far | **13.90** |" in text
    assert "| `burda2015/vae` | marginal_nll | 86.76 (quoted) | ≤ 87.75 | not run yet |" in text
    assert "![" in text
    assert (tmp_path / "page.png").stat().st_size > 0
    assert json.loads((results / NAME / "seed-0.json").read_text())["here"] == 13.9
