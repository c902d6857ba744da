"""What `aecli compare --output` writes: tables and pictures, into a new folder."""

import pytest
import yaml
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from aecli.commands.compare import main
from aecli.commands.train import train
from aecli.errors import SettingError
from tests.conftest import configure


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
    assert (
        "index.html, table.md, table.csv, curves.png, settings.png, grid.png"
        in capsys.readouterr().out
    )
    assert (tmp_path / "mine" / "table.md").read_text().startswith("| model | runs | val/mse |")
    for name in ("curves", "settings", "grid"):
        with Image.open(tmp_path / "mine" / f"{name}.png") as picture:
            assert min(picture.size) > 200


def test_one_value_by_epoch_is_still_drawn(sweep, tmp_path):
    with SummaryWriter(str(sweep / "0_a")) as writer:
        writer.add_scalar("val/loss", 1.0, 5)
        writer.add_scalar("epoch", 0, 5)
    main(["--metric", "val/loss", "--output", "mine"])
    assert (tmp_path / "mine" / "curves.png").exists()
    assert not (tmp_path / "mine" / "grid.png").exists()


def test_an_output_never_goes_where_something_is(sweep, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "table.md").write_text("notes of years")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name, told in {
        "mine": "--output mine: exists already; name a new or an empty folder",
        "file": "--output file: exists already",
        "link": "--output link: is a symbolic link, and nothing is written through one",
        "file/x": f"--output file/x: cannot be made: {tmp_path}/file is no folder",
        "link/../file/x/y": f"cannot be made: {tmp_path}/",
        "": "--output '': must be the path of a new or an empty folder",
        ".": "--output .: must be the path of a new or an empty folder",
        "empty/..": "--output empty/..: must be the path of",
    }.items():
        with pytest.raises(SettingError) as refused:
            main(["--output", name])
        assert told in str(refused.value)
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
