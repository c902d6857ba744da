"""Runs side by side, from directories alone."""

import csv
import json
import subprocess
import sys

import pytest
import yaml
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from aecli.commands.compare import main
from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.runs import records
from tests.conftest import configure


def make(folder, name, loss, model="vae", beta=1.0, seed=0, **metrics):
    """Write what a finished run leaves behind, but for its weights."""
    run = folder / name
    (run / ".hydra").mkdir(parents=True)
    config = {
        "dataset": {"_target_": "x.Data", "root": f"/{name}", "binarize": "none"},
        "network": {"hidden": [400], "shape": "${dataset.shape}"},
        "model": {"beta": beta, "network": "${network}"},
        "seed": seed,
        "output_dir": str(folder),
    }
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    typed = [f"model={model}", f"model.beta={beta}", f"seed={seed}", f"output_dir={folder}"]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(typed))
    told = {"choices": {"model": model, "likelihood": "bernoulli"}, "epochs": 3}
    told |= {"val": {"loss": loss, "mse": loss / 100}, "test": {"seed": 0, **metrics}}
    (run / "metrics.json").write_text(json.dumps(told))
    return run


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
    main([])
    assert table(capsys)[0][:3] == ["4", "2", "91 ± 1.4"]
    main(["--metric", "val/mse"])
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
    assert records.more_is_better("test/probe_accuracy")
    assert not records.more_is_better("test/probe_error")


def test_losses_of_different_models_do_not_compare(sweep, capsys):
    make(sweep, "3_e", 1.0, model="ae")
    main([])
    assert "best by val/mse" in capsys.readouterr().out


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
    assert "left out, not finished or damaged: 2_c, 10_d" in caplog.text
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
    main(["--output", "mine"])
    assert (tmp_path / "mine" / "curves.png").exists()
    assert not (tmp_path / "mine" / "grid.png").exists()
