"""Runs side by side, from directories alone: which ones, in which order, with which columns."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aecli import progress
from aecli.commands.compare import main
from aecli.errors import SettingError
from aecli.runs import records
from tests.commands.made import change, head_and_rows, make, table


def test_runs_of_several_seeds_are_a_row_the_best_first(sweep, capsys):
    main(["--metric", "val/loss"])
    assert table(capsys)[0][:3] == ["4", "2", "91 ± 1.4"]
    main([])
    told = capsys.readouterr().out
    head = next(line for line in told.splitlines() if "model.beta" in line)
    assert "seed" not in head
    assert "binarize" not in head
    assert "best by val/mse: outputs/sweeps/2026-01-01_00-00-00/2_c" in told
    assert "tensorboard --logdir outputs/sweeps/2026-01-01_00-00-00" in told


def test_of_some_metrics_more_is_better(sweep, capsys):
    make(sweep, "3_e", 80.0, beta=2.0, elbo=-70.0)
    main(["--metric", "test/elbo"])
    told = capsys.readouterr().out
    assert "left out: 2 runs without test/elbo" in told
    assert told.index("-70") < told.index("-91")
    assert "-91 (n=1)" in told
    assert records.more_is_better("test/probe_accuracy")
    assert not records.more_is_better("test/probe_error")
    for name in ("precision_prior", "recall_prior", "precision_fitted", "recall_posterior"):
        assert records.more_is_better(f"test/generated_{name}")
    assert not records.more_is_better("test/generated_kernel_prior")
    assert records.more_is_better("test/gap_elbo")
    assert not records.more_is_better("test/gap_kl")
    assert records.loss_of("val/norm_ratio", 0.99) < records.loss_of("val/norm_ratio", 1.2)
    assert records.loss_of("val/norm_ratio", 1.2) < records.loss_of("val/norm_ratio", 0.6)


def test_every_metric_of_which_more_is_better_is_known_as_such():
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    rows = re.findall(r"^\| `(\w+?)(?:_…)?` \|.*\| higher \|$", page.read_text(), re.MULTILINE)
    assert len(rows) > 10
    assert all(records.more_is_better(f"test/{name}_prior") or records.more_is_better(name)
               for name in rows)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "typed", "among"),
    [
        ("[400,200]", "[400,200]", True),
        ("[400,200]", "[16],[400,200]", True),
        ("[16]", "[16]", True),
        ("1", "[16]", False),
        ("[400,200]", "[400,*]", True),
        (True, "true", True),
        (True, "True", False),
        (False, "true,false", True),
        (0.001, "1e-3", True),
        (None, "null", True),
    ],
)
def test_a_value_is_among_those_that_are_typed_as_it_is_shown(value, typed, among):
    assert records._is_among(value, records.BETWEEN.split(typed)) == among


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (["model.beta=4"], {"2_c", "10_d"}),
        (["model.beta=1,4", "seed=1"], {"1_b", "10_d"}),
        (["model=v*"], {"0_a", "1_b", "2_c", "10_d"}),
        (["outputs/sweeps/*/*_b", "outputs/sweeps/*/0_a"], {"1_b", "0_a"}),
        (["outputs/sweeps/2026-01-01_00-00-00/2_c"], {"2_c"}),
        (["outputs"], {"0_a", "1_b", "2_c", "10_d"}),
    ],
)
def test_runs_are_chosen_by_place_and_by_setting(sweep, tmp_path, words, runs):
    main([*words, "--output", "mine"])
    with (tmp_path / "mine" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["directory"].rpartition("/")[2] for row in rows} == runs


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere: no run lies there"),
        (["modle=vae"], r"modle: no run has this setting; did you mean model"),
        (["beta=4"], r"beta: no run has this setting; did you mean model.beta\?"),
        (["run=latest"], "run=latest: type the path of a run or a folder, or aecli compare alone"),
        (["run=outputs/x"], "run=outputs/x: type aecli compare outputs/x"),
        (["model=gan"], "model=gan: no run has it; model is one of vae"),
        (
            ["--metric", "mse"],
            "--metric mse: no run has it; must be one of epochs, test/elbo, val/loss",
        ),
    ],
)
def test_mistakes_are_told_plainly(sweep, words, told):
    with pytest.raises(SettingError, match=told):
        main(words)


def test_unfinished_and_damaged_runs_are_named_and_left_out(sweep, caplog, capsys):
    (sweep / "2_c" / "metrics.json").unlink()
    (sweep / "10_d" / ".hydra" / "config.yaml").write_text("{")
    main([])
    assert "left out, not finished: 2_c" in caplog.text
    assert (
        "left out: outputs/sweeps/2026-01-01_00-00-00/10_d/.hydra/config.yaml: damaged"
        in caplog.text
    )
    assert table(capsys)[0][:2] == ["2", "101 ± 1.4"]
    for run in ("0_a", "1_b"):
        (sweep / run / "metrics.json").write_text("[]")
    with pytest.raises(SettingError, match="none of 4 runs has finished"):
        main([])


def test_without_runs_it_says_how_to_make_some(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="no runs under outputs/; aecli train makes them"):
        main([])


def test_a_run_that_a_search_has_ended_early_is_named_and_left_out(sweep, capsys, caplog):
    change(sweep / "2_c", pruned=True)
    main([])
    assert "2_c" not in capsys.readouterr().out
    assert "left out, ended early by the search: 2_c" in caplog.text


def test_the_newest_sweep_is_the_one_that_began_last(sweep, capsys):
    (sweep / "multirun.yaml").touch()
    os.utime(sweep / "multirun.yaml", (2e9, 2e9))
    make(sweep.with_name("other"), "0_x", 1.0)
    os.utime(sweep.with_name("other"), (1.9e9, 1.9e9))
    main([])
    assert "other" not in capsys.readouterr().out


def test_folders_of_images_are_data_of_their_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = {"dataset._target_": "aecli.data.ImageData"}
    for name in ("cats", "dogs"):
        make(tmp_path / "runs", name, 100.0, settings=images | {"dataset.root": name})
    main(["runs"])
    rows, below = head_and_rows(capsys)
    assert [row["dataset.root"] for row in rows] == ["cats", "dogs"]
    assert any("val/loss do not compare: dataset.root is cats, dogs" in line for line in below)
    main(["runs", "dataset.root=cats"])
    assert "dogs" not in capsys.readouterr().out


def test_runs_that_only_what_was_not_typed_tells_apart_show_it(sweep, capsys):
    run = make(sweep, "3_e", 80.0, beta=4.0)
    path = run / ".hydra" / "config.yaml"
    path.write_text(path.read_text().replace("400", "500"))
    main([])
    told = capsys.readouterr().out
    assert "network.hidden" in told
    assert "[500]" in told


def test_it_imports_no_torch():
    code = "import aecli.commands.compare.charts, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_code_dimension_is_shown_though_nobody_typed_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for model, most in (("ae", 30), ("vae", 99)):
        code_dim = f"${{code_dim:{most},${{dataset.shape}}}}"
        settings = {"model.code_dim": code_dim, "dataset.shape": [1, 10, 8]}
        make(tmp_path / "runs", model, 1.0, model=model, settings=settings)
    main(["runs"])
    rows, _ = head_and_rows(capsys)
    assert {(row["model"], row["model.code_dim"]) for row in rows} == {("ae", "30"), ("vae", "40")}


def test_the_same_run_twice_counts_once(sweep, tmp_path, capsys):
    copy = make(sweep, "5_copy", 100.0, beta=1.0, seed=0)
    other = make(sweep, "6_other", 103.0, beta=1.0, seed=1, mse=0.5)
    link = tmp_path / "link"
    link.symlink_to(sweep / "0_a")
    main(["outputs", "link", "--metric", "val/loss"])
    rows, below = head_and_rows(capsys)
    assert rows[1]["val/loss*"] == "101.5 ± 2.1"  # of the two with seed=1, the evaluated one
    assert rows[1]["runs"] == "2"
    line = next(line for line in below if line.startswith("same settings and seed"))
    assert f"{copy.name} (as " in line
    assert f"1_b (as {other.name}, with other values)" in line


def test_differences_have_an_interval(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, (a, b) in enumerate([(10.0, 11.0), (20.0, 21.2), (30.0, 30.8)]):
        make(tmp_path / "runs", f"a{seed}", a, seed=seed, settings={"optimizer.lr": 1})
        make(tmp_path / "runs", f"b{seed}", b, seed=seed, settings={"optimizer.lr": 2})
        make(tmp_path / "runs", f"c{seed}", b, seed=seed + 9, settings={"optimizer.lr": 3})
    make(tmp_path / "runs", "d", 99.0, settings={"optimizer.lr": 4})
    main(["runs"])
    rows, _ = head_and_rows(capsys)
    told = {row["optimizer.lr"]: row["vs best"] for row in rows}
    # Seed by seed the difference is sure; of other seeds it drowns in their spread.
    assert told == {"1": "–", "2": "+1.00 [0.50, 1.50]", "3": "+1 [-22, 24]", "4": "–"}


def test_without_several_seeds_there_is_no_column_of_differences(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for lr in (1, 2):
        make(tmp_path / "runs", f"{lr}", lr, settings={"optimizer.lr": lr})
    main(["runs"])
    assert "vs best" not in capsys.readouterr().out


def test_runs_of_several_versions_are_named(sweep, capsys):
    change(sweep / "0_a", version="0.1.0")
    change(sweep / "1_b", version="0.2.0")
    main([])
    assert "made by several versions of aecli: 0.1.0, 0.2.0" in capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 100, 300])
def test_a_terminal_gets_the_columns_that_it_has_room_for(sweep, monkeypatch, capsys, width):
    monkeypatch.setattr(progress, "width", lambda: width)
    make(sweep, "3_e", 80.0, beta=2.0, elbo=-70.0, sse=3.0, probe_error=4.0, finetune_error=4.0)
    main([])
    told = capsys.readouterr().out
    lines = [line for line in told.splitlines() if line[0] in "┏┃┡│└"]
    assert max(map(len, lines)) <= width
    assert all("…" not in line for line in lines)
    assert ("not shown in so narrow a terminal: " in told) == (width < 300)
