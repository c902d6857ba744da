"""The table of docs/reproductions.md, from results alone."""

import pytest

from benchmarks.reproductions import PAGE, table
from benchmarks.reproductions.outcomes import outcome as read_outcome
from benchmarks.reproductions.picture import draw
from benchmarks.reproductions.rows import ROWS, Row
from benchmarks.reproductions.settings import of_experiment
from tests.benchmarks.reproductions.made import keep, outcome, result
from tests.conftest import EXPERIMENTS

NAME = "hinton2006/pca"


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    monkeypatch.setitem(ROWS, "a/b", Row(1))


def row(*runs, **settings):
    return table.row("a/b", {"a/b": outcome(*runs, **settings)})


def test_every_experiment_has_its_row():
    assert sorted(ROWS.keys() - {"a/b"}) == EXPERIMENTS
    assert all(f"| `{name}` |" in PAGE.read_text() for name in EXPERIMENTS)


def test_what_a_row_is_held_against_has_a_row_of_the_same_metric():
    for name, row in ROWS.items():
        for other in row.better_than:
            metrics = {of_experiment(one)[1].metric for one in (name, other)}
            assert len(metrics) == 1, f"{name} and {other}"


def test_a_row_is_the_mean_and_the_spread():
    two = row(result(97.0), result(98.0, seed=1))
    assert "**97.50** ± 0.71 | 91.15 to 103.85 | 2 | 5 | 2 |" in two
    assert "≥ 97.6: reached |" in row(result(97.6))
    assert "≤ 2: reached |" in row(result(1.5), metric="sse", goal=2)
    assert "≥ -91.4: reached |" in row(result(-91.3), metric="elbo", goal=-91.4)
    assert "≥ 97.6: reached so far | **97.60** | – | 1 of 3 |" in row(result(97.6), seeds=3)
    none = row(seeds=3)
    assert none.startswith("| `a/b` | finetune_accuracy | 97.6 (read) | ≥ 97.6 | not run yet | – |")
    assert none.count("|") == table.HEAD.count("|") == two.count("|")


def test_a_goal_within_the_interval_is_not_decided():
    assert "≥ 97.6: undecided" in row(result(97.0), result(98.0, seed=1))
    assert "≥ 97.6: missed" in row(*(result(97.0 + s / 100, seed=s) for s in range(3)))
    one = row(result(97.8, interval=[97.5, 98.1]))  # over the test images
    assert "≥ 97.6: undecided" in one
    assert "97.50 to 98.10 | 1 |" in one


def beside(name, row, **outcomes):
    return list(table.beside(row, outcomes[name], outcomes))


def test_a_row_is_held_against_others_and_against_the_pixels():
    k25 = result(1.5, test={"probe_error": 1.5, "probe_error_pixels": 7.2})
    error = {"metric": "probe_error"}
    outcomes = {"k25": outcome(k25, **error), "k40": outcome(result(1.6), **error)}
    outcomes["k70"] = outcome(result(1.4), **error)
    assert beside("k25", Row(1, {"k40": 0.0, "k70": 0.0}, 0.0), **outcomes) == [
        "0.10 under `k40` (≥ 0: reached)",
        "-0.10 under `k70` (≥ 0: missed)",
        "5.70 under raw pixels (≥ 0: reached)",
    ]
    assert beside("k40", Row(1), **outcomes) == []
    outcomes["k40"] = outcome(result(1.6), other_settings="stale: k=3, now 4", **error)
    outcomes["k70"] = outcome(**error)
    assert beside("k25", Row(1, {"k40": 0.0, "k70": 0.0}), **outcomes) == []


def test_a_difference_is_paired_by_seed():
    nll = {"metric": "marginal_nll"}
    values = (86.0, 85.9, 86.2)
    iwae = outcome(*(result(value, seed) for seed, value in enumerate(values)), **nll)
    vae = outcome(*(result(v + 0.5 + s / 100, s) for s, v in enumerate(values)), **nll)
    told = "0.51 [0.49, 0.53] under `vae` (≥ 1: missed)"
    assert beside("iwae", Row(3, {"vae": 1.0}), iwae=iwae, vae=vae) == [told]


def test_of_an_accuracy_more_is_better():
    ours, theirs = outcome(result(98.0)), outcome(result(97.5))
    told = "0.50 over `theirs` (≥ 0.2: reached)"
    assert beside("ours", Row(1, {"theirs": 0.2}), ours=ours, theirs=theirs) == [told]


@pytest.mark.parametrize(
    ("changed", "expected"), [([], "stale"), (["model.code_dim=31"], "changed")]
)
def test_other_settings_are_named_and_not_compared(tmp_path, changed, expected):
    settings, _ = of_experiment(NAME)
    keep(tmp_path, NAME, 0, 12.5, settings | {"model.code_dim": 31}, changed=changed)
    outcomes = {NAME: read_outcome(NAME, 3, tmp_path)}
    row = table.row(NAME, outcomes)
    assert f"| **12.50** ({expected}: model.code_dim=31, now 30) | – | 1 of 3 |" in row
    assert "≤ 13.89: not compared" in row
    draw(outcomes, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists() == (not changed)  # that is another experiment's number


def test_results_of_the_present_settings_alone_make_the_row(tmp_path):
    settings, _ = of_experiment(NAME)
    keep(tmp_path, NAME, 0, 12.5, settings | {"model.code_dim": 31})
    keep(tmp_path, NAME, 1, 13.5, settings)
    keep(tmp_path, NAME, 2, 13.7, settings)
    row = table.row(NAME, {NAME: read_outcome(NAME, 3, tmp_path)})
    assert "**13.60** ± 0.14 |" in row
    assert "| 2 of 3 |" in row


def test_the_table_is_put_in_its_place(tmp_path):
    page, picture = tmp_path / "page.md", tmp_path / "page.png"
    page.write_text(f"before\n{table.START}\nold\n{table.END}\nafter\n")
    outcomes = {name: outcome(seeds=1, name=name) for name in ROWS}
    table.write_table(page, outcomes, picture)
    text = page.read_text()
    assert text.startswith(f"before\n{table.START}\n\n| `aecli train")
    assert text.endswith(f" |\n\n{table.END}\nafter\n")
    assert "old" not in text
    table.write_table(page, outcomes, picture)
    assert page.read_text() == text


def test_the_machine_is_named_from_the_results():
    runs = [result(1.0), result(1.0, date="2026-01-03", processor=None)]
    assert table.machine(runs) == (
        "2 runs, 0.1 hours in all, on Z80 (cpu), threads a run: 1; aecli 0, torch 2, python 3;"
        " 2026-01-01 to 2026-01-03."
    )


def test_the_picture_has_a_group_for_each_unit(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "benchmarks.reproductions.picture._draw_group",
        lambda axes, unit, group: drawn.append((unit, [one.name for one in group])),
    )
    outcomes = {
        "a": outcome(result(1.0), name="a", metric="probe_error"),
        "b": outcome(result(-90.0), name="b", metric="elbo"),
        "c": outcome(result(90.0), name="c", metric="marginal_nll"),
        "d": outcome(name="d", metric="sse"),
        "e": outcome(result(98.0), name="e"),
        "f": outcome(result(98.0), name="f", value=None),
        "g": outcome(result(0.59), name="g", metric="f1"),
    }
    draw(outcomes, tmp_path / "a.png")
    groups = [("error, %", ["a", "e"]), ("nats per image", ["b", "c"]), ("F1 of the firing", ["g"])]
    assert drawn == groups
