"""Runs side by side, from directories alone."""

import csv
import json
import subprocess
import sys

import pytest
import yaml
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from aecli import progress
from aecli.commands.compare import main
from aecli.commands.compare.meaning import conflicts
from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.runs import records
from tests.conftest import configure


def make(folder, name, loss, model="vae", beta=1.0, seed=0, settings=None, **metrics):
    """Write what a finished run leaves behind, but for its weights.

    `settings` are those of its configuration by their keys; `metrics` are of the test.
    """
    run = folder / name
    (run / ".hydra").mkdir(parents=True)
    config = {
        "dataset": {"_target_": "x.Data", "root": f"/{name}", "binarize": "none"},
        "network": {"hidden": [400], "shape": "${dataset.shape}"},
        "model": {"_target_": f"x.{model}", "beta": beta, "network": "${network}"},
        "seed": seed,
        "output_dir": str(folder),
    }
    for key, value in (settings or {}).items():
        *groups, last = key.split(".")
        node = config
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    typed = [f"model={model}", f"model.beta={beta}", f"seed={seed}", f"output_dir={folder}"]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(typed))
    stored = {"choices": {"model": model, "likelihood": "bernoulli"}, "epochs": 3}
    stored["val"] = {"loss": loss, "mse": loss / 100}
    if metrics:
        stored["test"] = {"seed": 0, **metrics}
    (run / "metrics.json").write_text(json.dumps(stored))
    return run


def change(run, **parts):
    """Add to what a run's `metrics.json` holds."""
    path = run / "metrics.json"
    stored = json.loads(path.read_text())
    for name, value in parts.items():
        is_part = isinstance(value, dict) and isinstance(stored.get(name), dict)
        stored[name] = stored[name] | value if is_part else value
    path.write_text(json.dumps(stored))


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "sweeps" / "2026-01-01_00-00-00"
    make(folder, "0_a", 100.0, beta=1.0, seed=0)
    make(folder, "1_b", 102.0, beta=1.0, seed=1)
    make(folder, "2_c", 90.0, beta=4, seed=0)
    make(folder, "10_d", 92.0, beta=4.0, seed=1, elbo=-91.0)
    return folder


def table(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


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
    assert "left out: 1 without test/elbo" in told
    assert told.index("-70") < told.index("-91")
    assert "-91 (n=1)" in told
    assert records.more_is_better("test/probe_accuracy")
    assert not records.more_is_better("test/probe_error")


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


def test_runs_that_only_what_was_not_typed_tells_apart_show_it(sweep, capsys):
    run = make(sweep, "3_e", 80.0, beta=4.0)
    path = run / ".hydra" / "config.yaml"
    path.write_text(path.read_text().replace("400", "500"))
    main([])
    told = capsys.readouterr().out
    assert "network.hidden" in told
    assert "[500]" in told


def test_it_makes_tables_and_pictures_of_real_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, model in enumerate(("ae", "vae")):
        config, choices = configure(
            f"model={model}", "trainer.max_epochs=2", "pictures_every=1", "network.hidden=[8]"
        )
        run = tmp_path / "outputs" / "sweeps" / "now" / f"{number}_{model}"
        (run / ".hydra").mkdir(parents=True)
        (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"seed": 0}))
        (run / ".hydra" / "overrides.yaml").write_text(f"- model={model}")
        train(config, run, choices)
    capsys.readouterr()
    main(["--output", "mine"])
    assert "table.md, table.csv, curves.png, settings.png, grid.png" in capsys.readouterr().out
    assert (tmp_path / "mine" / "table.md").read_text().startswith("| model | runs | val/mse |")
    for name in ("curves", "settings", "grid"):
        with Image.open(tmp_path / "mine" / f"{name}.png") as picture:
            assert min(picture.size) > 200


def test_it_imports_no_torch():
    code = "import aecli.commands.compare.charts, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_value_by_epoch_is_still_drawn(sweep, tmp_path):
    with SummaryWriter(str(sweep / "0_a")) as writer:
        writer.add_scalar("val/loss", 1.0, 5)
        writer.add_scalar("epoch", 0, 5)
    main(["--metric", "val/loss", "--output", "mine"])
    assert (tmp_path / "mine" / "curves.png").exists()
    assert not (tmp_path / "mine" / "grid.png").exists()


def head_and_rows(capsys):
    """Return the printed rows, each a dict by the heads of the columns, and the lines below."""
    lines = capsys.readouterr().out.splitlines()
    (head,) = [[c.strip() for c in line.split("┃")[1:-1]] for line in lines if "┃" in line]
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in lines if "│" in line]
    below = lines[next(i for i, line in enumerate(lines) if line.startswith("└")) + 1 :]
    return [dict(zip(head, row, strict=True)) for row in rows], below


PENALTY = {"sparsity._target_": "x.L1", "sparsity.weight": 0.1}


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ({}, {"model.beta": 4.0}, "model.beta is 1, 4"),
        ({}, {"model._target_": "x.Other"}, "model is vae"),
        (PENALTY, PENALTY | {"sparsity.weight": 3.0}, "sparsity.weight is 0.1, 3"),
        ({}, {"dataset.binarize": "fixed"}, "dataset.binarize is fixed, none"),
        ({"likelihood.sigma": 0.2}, {"likelihood.sigma": 0.5}, "likelihood.sigma is 0.2, 0.5"),
        ({"noise.std": 0.2}, {"noise.std": 0.3}, "noise.std is 0.2, 0.3"),
    ],
)
def test_losses_of_another_meaning_do_not_compare(tmp_path, monkeypatch, capsys, one, other, why):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs", "0_a", 100.0, settings=one)
    make(tmp_path / "runs", "1_b", 90.0, settings=other)
    main(["runs"])
    rows, below = head_and_rows(capsys)
    assert f"* val/loss does not compare: {why}; sorted by val/mse instead" in below
    assert [row["val/loss*"] for row in rows] == ["90", "100"]
    main(["runs", "--metric", "val/loss"])  # asked for: it is done, and said
    rows, below = head_and_rows(capsys)
    assert [row["val/loss*"] for row in rows] == ["90", "100"]
    assert below[0] == f"* val/loss does not compare: {why}"


@pytest.mark.parametrize(
    "other",
    [
        {"optimizer.lr": 0.1},
        {"model.code_dim": 7},
        {"model.samples": 5},  # a VAE's: the same expectation
        {"model.warmup_epochs": 3},  # beta is whole in validation
        {"dataset.batch_size": 7, "dataset.train_size": 100},
        {"dataset.root": "/elsewhere"},
        {"sparsity.k": 3},  # without a penalty
    ],
)
def test_losses_that_mean_the_same_compare(tmp_path, monkeypatch, capsys, other):
    monkeypatch.chdir(tmp_path)
    for name, settings in (("0_a", {}), ("1_b", other)):
        run = make(tmp_path / "runs", name, 100.0, settings=settings)
        change(run, val={"penalty": 0.0})
    main(["runs"])
    assert "does not compare" not in (told := capsys.readouterr().out)
    assert "best by val/loss" in told


def test_draws_once_or_anew_in_training_are_the_same_in_validation(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for binarize in ("fixed", "dynamic"):
        make(tmp_path / "runs", binarize, 100.0, settings={"dataset.binarize": binarize})
    main(["runs"])
    assert "best by val/loss" in capsys.readouterr().out


def test_after_a_sweep_of_beta_the_best_elbo_wins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for beta, loss, elbo in ((0.1, 5.0, -40.0), (1.0, 25.0, -25.0), (10.0, 90.0, -32.0)):
        run = make(tmp_path / "runs", f"beta-{beta}", loss, beta=beta)
        change(run, val={"elbo": elbo, "kl": 9.5})
    main(["runs"])
    rows, below = head_and_rows(capsys)
    assert [row["model.beta"] for row in rows] == ["1", "10", "0.1"]
    assert rows[0]["val/kl"] == "9.5"
    why = "model.beta is 0.1, 1, 10"
    assert f"* val/loss does not compare: {why}; sorted by val/elbo instead" in below
    assert "best by val/elbo: runs/beta-1.0" in below


def test_on_other_data_nothing_compares(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "mnist"):
        run = make(tmp_path / "runs", name, 100.0, settings={"dataset.shape": name})
        change(run, val={"elbo": -1.0}, choices={"dataset": name})
    main(["runs"])
    _, below = head_and_rows(capsys)
    assert "* val/mse, val/loss, val/elbo do not compare: dataset is digits, mnist" in below


def test_the_code_dimension_is_shown_though_nobody_typed_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for model, code_dim in (("ae", 30), ("vae", 20)):
        make(tmp_path / "runs", model, 1.0, model=model, settings={"model.code_dim": code_dim})
    main(["runs"])
    rows, _ = head_and_rows(capsys)
    assert {(row["model"], row["model.code_dim"]) for row in rows} == {("ae", "30"), ("vae", "20")}


def evaluated(folder, name, samples, value, **more):
    settings = {"checkpoint": "best", "importance_samples": samples, "batch_size": samples}
    run = make(folder, name, 100.0, marginal_nll=value, mse=0.1, **more)
    change(run, test={"settings": settings, "checkpoint": "best.ckpt"})
    return run


def test_values_estimated_in_two_ways_are_not_averaged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    evaluated(tmp_path / "runs", "0_a", 10, 180.3, seed=0)
    evaluated(tmp_path / "runs", "1_b", 400, 179.0, seed=1)
    make(tmp_path / "runs", "2_c", 100.0, seed=2)
    for seed in (0, 1):
        evaluated(tmp_path / "runs", f"3_{seed}", 400, 178.0 + seed, seed=seed, model="iwae")
    main(["runs", "--metric", "test/marginal_nll", "--output", "mine"])
    rows, below = head_and_rows(capsys)
    assert [row["test/marginal_nll*"] for row in rows] == ["178.5 ± 0.71", "179 to 180.3 (n=2)*"]
    assert [row["test/mse"] for row in rows] == ["0.1 ± 0", "0.1 ± 0 (n=2)"]
    assert [row["runs"] for row in rows] == ["2", "3"]
    assert "* test/marginal_nll does not compare: eval.importance_samples is 10, 400" in below
    assert "vs best" not in rows[0]  # there is no difference of what does not compare
    with (tmp_path / "mine" / "table.csv").open() as file:
        samples = [row["eval.importance_samples"] for row in csv.DictReader(file)]
    assert sorted(samples) == ["", "10", "400", "400", "400"]


@pytest.mark.parametrize(
    ("key", "name", "matters"),
    [
        ("eval.checkpoint", "test/mse", True),
        ("eval.importance_samples", "test/marginal_nll", True),
        ("eval.importance_samples", "test/marginal_nll_ais", False),
        ("eval.importance_samples", "test/elbo", False),
        ("eval.ais.steps", "test/marginal_nll_ais", True),
        ("eval.ais.steps", "test/marginal_nll", False),
        ("eval.probe.C", "test/probe_error", True),
        ("eval.probe.C", "test/finetune_error", False),
        ("eval.train_size", "test/finetune_error", True),
        ("eval.batch_size", "test/probe_error", False),
        ("eval.noise", "test/mse_masking_0.5", False),  # in the name
        ("noise.std", "val/loss", True),
        ("noise.std", "val/clean_loss", False),
        ("noise.std", "val/elbo", False),
        ("sparsity.target", "val/penalty", True),
        ("model.beta", "val/elbo", False),
        ("model.samples", "val/bound", True),
        ("dataset.classes", "val/mse", True),
        ("dataset.binarize", "val/mse", False),
        ("dataset.binarize_seed", "test/nll", True),
        ("dataset.shape", "train_seconds", False),
    ],
)
def test_which_settings_are_part_of_a_metric(tmp_path, key, name, matters):
    metrics = {name: 1.0, "val/penalty": 1.0, "val/bound": 1.0}

    def run(setting):
        parts = ({}, setting) if key.startswith("eval.") else (setting, {})
        return records.Record(tmp_path, parts[0], frozenset(), metrics, parts[1], "")

    runs = [run({key: 1}), run({key: 2})]
    assert (name in conflicts(runs, [name])) == matters


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


def test_an_output_never_goes_where_something_is(sweep, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "table.md").write_text("notes of years")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("mine", "file", "link"):
        with pytest.raises(SettingError, match=rf"{name}: exists already"):
            main(["--output", name])
        assert capsys.readouterr().out == ""  # before any work
    assert (tmp_path / "mine" / "table.md").read_text() == "notes of years"
    main(["--output", "empty"])
    assert (tmp_path / "empty" / "table.csv").is_file()
    with pytest.raises(SettingError, match="exists already"):
        main(["--output", "empty"])


def test_an_output_that_fails_leaves_nothing(sweep, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aecli.commands.compare.charts.save", fail)
    with pytest.raises(SettingError, match="mine: cannot be written"):
        main(["--output", "mine"])
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
