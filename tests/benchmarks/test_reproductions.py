"""The script behind docs/reproductions.md."""

import json

import pytest

from benchmarks import reproductions
from tests.conftest import EXPERIMENTS


def metrics(here, changed=(), metric="finetune_accuracy", goal=97.6, seed=0, interval=None):
    experiment = {
        "metric": metric, "published": 97.6, "goal": goal, "evidence": "read", "here": here,
        "changed": list(changed), "interval": interval,
    }  # fmt: skip
    made = {"device": "cpu", "threads": 1, "version": "0", "torch": "2", "date": "2026-01-01"}
    made |= {"train_seconds": 120.0, "epochs": 5, "test": {"seed": seed}}
    return {"experiment": experiment, **made}


def test_every_experiment_has_its_row():
    assert sorted(reproductions.SEEDS) == EXPERIMENTS
    page = reproductions.PAGE.read_text()
    assert all(f"| `{name}` |" in page for name in EXPERIMENTS)


def test_a_row_is_the_mean_and_the_spread():
    def row(*runs):
        return reproductions.row("a/b", {"a/b": runs})

    two = row(metrics(97.0), metrics(98.0, seed=1))
    assert "**97.50** ± 0.71 | 91.15 to 103.85 | 2 | 5 | 2 |" in two
    assert "≥ 97.6: reached" in row(metrics(97.6))
    assert "≤ 2: reached" in row(metrics(1.5, metric="sse", goal=2))
    assert "not run yet" in row()
    assert row().count("|") == reproductions.HEAD.count("|") == two.count("|")


def test_a_goal_within_the_interval_is_not_decided():
    def row(*runs):
        return reproductions.row("a/b", {"a/b": runs})

    assert "≥ 97.6: undecided" in row(metrics(97.0), metrics(98.0, seed=1))
    assert "≥ 97.6: missed" in row(*(metrics(97.0 + s / 100, seed=s) for s in range(3)))
    one = row(metrics(97.8, interval=[97.5, 98.1]))  # over the test images
    assert "≥ 97.6: undecided" in one
    assert "97.50 to 98.10 | 1 |" in one


def test_a_row_is_held_against_others_and_against_the_pixels():
    k25, k40 = metrics(1.5, metric="probe_error", goal=1.6), metrics(1.6, metric="probe_error")
    k25["test"] |= {"probe_error": 1.5, "probe_error_pixels": 7.2}
    runs = {"makhzani2013/k25": [k25], "makhzani2013/k40": [k40]}
    assert list(reproductions.beside("makhzani2013/k25", runs)) == [
        "0.10 under `makhzani2013/k40` (≥ 0: reached)",
        "5.70 under raw pixels (≥ 0: reached)",
    ]
    iwae, vae = metrics(86.0, metric="marginal_nll"), metrics(86.5, metric="marginal_nll")
    runs = {"burda2015/iwae5": [iwae], "burda2015/vae": [vae]}
    told = "0.50 under `burda2015/vae` (≥ 1: missed)"
    assert list(reproductions.beside("burda2015/iwae5", runs)) == [told]
    assert list(reproductions.beside("burda2015/vae", runs)) == []
    for seed, value in ((1, 85.9), (2, 86.2)):
        iwae, vae = (metrics(v, metric="marginal_nll", seed=seed) for v in (value, value + 0.52))
        runs["burda2015/iwae5"].append(iwae)
        runs["burda2015/vae"].append(vae)
    told = "0.51 [0.48, 0.54] under `burda2015/vae` (≥ 1: missed)"
    assert list(reproductions.beside("burda2015/iwae5", runs)) == [told]


def test_the_table_takes_finished_runs_of_the_experiment_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{reproductions.START}\nold\n{reproductions.END}\nafter\n")
    monkeypatch.setattr(reproductions, "PAGE", page)
    for seed, values in enumerate([metrics(98.0), metrics(12.0, ["seed=3"]), {"epochs": 3}]):
        run = reproductions.OUTPUTS / "ng2011/stacked" / f"seed-{seed}" / "ae-mnist" / "date"
        run.mkdir(parents=True)
        (run / "metrics.json").write_text(json.dumps(values))
    reproductions.write_table()
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "**98.00** | – | 1 |" in text
    assert "old" not in text
    assert "12.0" not in text
    assert "1 runs, 0.0 hours of training in all (two runs at a time" in text
    assert "on cpu with 1 threads a run" in text


@pytest.mark.parametrize("checkpoint", [False, True])
def test_an_interrupted_run_goes_on(tmp_path, monkeypatch, checkpoint):
    monkeypatch.chdir(tmp_path)
    folder = reproductions.OUTPUTS / "a/b" / "seed-0" / "ae-mnist" / "date"
    if checkpoint:
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "last.ckpt").touch()
    typed = []

    class Done:
        returncode = 0

    def run(command, **keywords):
        typed.append(command[1:])
        return Done()

    monkeypatch.setattr(reproductions.subprocess, "run", run)
    assert reproductions.run("a/b", 0, jobs=2) == 0
    ((word, first, *rest),) = typed
    assert word == "train"
    assert first == (f"resume={folder}" if checkpoint else "experiment=a/b")
    assert rest == ([] if checkpoint else ["seed=0", f"output_dir={folder.parent.parent}"])
