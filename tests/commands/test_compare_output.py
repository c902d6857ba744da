"""What `aecli compare --output` writes: tables and pictures, into a new folder."""

import numpy as np
import pytest
import yaml
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from aecli.commands.compare import charts, main
from aecli.commands.compare import code_maps as code_maps_module
from aecli.commands.compare.code_maps import code_maps
from aecli.commands.compare.groups import Group
from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.runs.records import read_record
from tests.commands.made import change
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
        "index.html, table.md, table.csv, curves.png, settings.png, grid.png, codes.png"
        in capsys.readouterr().out
    )
    assert (tmp_path / "mine" / "table.md").read_text().startswith("| model | runs | val/mse |")
    for name in ("curves", "settings", "grid", "codes"):
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


def groups_of(sweep, *names):
    found = [read_record(sweep / name) for name in names]
    return [Group(record.settings, [record]) for record in found]


def write_codes(run, codes, labels=()):
    folder = run / "00010" / "codes"
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "tensors.tsv", codes, delimiter="\t")
    if labels:
        (folder / "metadata.tsv").write_text("\n".join(labels))


def test_codes_lie_on_one_scale_with_the_prior_where_there_is_one(sweep):
    draw = np.random.default_rng(0)
    write_codes(sweep / "0_a", draw.normal(size=(40, 2)), [str(n % 3) for n in range(40)])
    far = 5 + draw.normal(size=(40, 6)) * [3, 2, 1, 1, 1, 1]
    write_codes(sweep / "2_c", far)
    change(sweep / "2_c", choices={"prior": "standard"}, val={"kl": 2.0})
    figure = code_maps(groups_of(sweep, "0_a", "2_c"), ["model.beta"])
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim() == first.get_ylim()
    assert (first.get_xlabel(), second.get_ylabel()) == ("z0", "principal component 2")
    assert len(first.lines) == 0
    # Seen from the centre of the circles, a point lies where its code is on the components.
    x, y = second.lines[0].get_data()
    centre = np.array([x[:-1].mean(), y[:-1].mean()])
    _, _, directions = np.linalg.svd(far - far.mean(axis=0), full_matrices=False)
    drawn = np.asarray(second.collections[0].get_offsets()) - centre
    np.testing.assert_allclose(np.abs(drawn), np.abs(far @ directions[:2].T), atol=1e-6)
    assert {t.get_text() for t in figure.legends[0].get_texts()} == {"0", "1", "2", "prior: σ, 2σ"}


@pytest.mark.parametrize("text", ["1\t2\nx\ty", "1\tnan\n2\t3", "1\t2\n3", "1e30\t2\n1\t2", ""])
def test_codes_that_are_damaged_are_left_out(sweep, text, caplog):
    write_codes(sweep / "0_a", np.eye(2))
    (sweep / "0_a" / "00010" / "codes" / "tensors.tsv").write_text(text)
    assert code_maps(groups_of(sweep, "0_a"), []) is None
    assert "codes of 0_a" in caplog.text


def test_the_input_of_all_models_is_drawn_once_above_them():
    draw = np.random.default_rng(0)
    row = lambda: draw.integers(0, 255, size=(charts.ROW, 90, 3), dtype=np.uint8)  # noqa: E731
    given = row()
    pictures = {
        "a": np.concatenate([given, row()]),
        "b": np.concatenate([given, row()]),
        "noisy": np.concatenate([given, row(), row()]),
    }
    images = [(name, charts.Image.fromarray(pixels)) for name, pixels in pictures.items()]
    kept = charts._without_repeated(images)
    heights = {name: image.height // charts.ROW for name, image in kept}
    assert list(heights.items()) == [("", 1), ("a", 1), ("b", 1), ("noisy", 2)]
    np.testing.assert_array_equal(np.asarray(kept[0][1]), given)
    np.testing.assert_array_equal(np.asarray(kept[2][1]), pictures["b"][charts.ROW :])
    other = charts.Image.fromarray(np.concatenate([row(), row()]))
    assert charts._without_repeated([*images, ("other", other)]) == [*images, ("other", other)]


def test_pictures_are_in_the_order_of_the_runs(sweep, tmp_path, monkeypatch):
    """The table has the best first; a picture of β = 0.01, 1, 20 goes from one end to the other."""
    drawn = {}
    monkeypatch.setattr(charts, "grid", lambda groups, keys: drawn.update(grid=groups))
    monkeypatch.setattr(code_maps_module, "code_maps", lambda groups, _: drawn.update(maps=groups))
    main(["--metric", "val/loss", "--output", "mine"])
    assert [group.records[0].directory.name for group in drawn["grid"]] == ["0_a", "2_c"]
    assert drawn["maps"] == drawn["grid"]
    losses = [group.values("val/loss")[0] for group in drawn["grid"]]
    assert losses != sorted(losses)
    first = (tmp_path / "mine" / "table.csv").read_text().splitlines()[1]
    assert str(min(losses)) in first


def test_curves_have_the_parts_of_the_loss_over_whole_epochs(sweep):
    for name, start in (("0_a", 90), ("2_c", 80)):
        with SummaryWriter(str(sweep / name)) as writer:
            for epoch in range(2):
                step = 10 * (epoch + 1)
                writer.add_scalar("epoch", epoch, step)
                writer.add_scalar("val/loss", start - epoch, step)
                writer.add_scalar("train/loss", start - 1 - epoch, step)
                writer.add_scalar("val/kl", 3.0, step)
                writer.add_scalar("val/penalty", 0.0, step)
    figure = charts.curves(groups_of(sweep, "0_a", "2_c"), ["model.beta"], "val/mse")
    loss, kl = (axes for axes in figure.axes if axes.get_visible())
    assert (loss.get_title(), kl.get_title()) == ("loss", "kl")  # none of a penalty that is 0
    assert loss.get_ylabel() == "nats per example"
    assert [list(line.get_ydata()) for line in loss.lines] == [
        [90, 89],
        [89, 88],
        [80, 79],
        [79, 78],
    ]
    assert [line.get_linestyle() for line in loss.lines] == ["-", ":", "-", ":"]
    figure.canvas.draw()
    ticks = [tick for tick in loss.get_xticks() if 1 <= tick <= 2]
    assert ticks == [1, 2]
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["model.beta=1", "model.beta=4", "validation", "training"]
