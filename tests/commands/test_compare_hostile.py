"""`aecli compare` on runs that somebody broke or made up: a line for each, and no harm."""

import io
import json
import logging
import os
import random
import re
import struct
import time
import zlib
from contextlib import suppress

import pytest
import yaml
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from aecli.commands.compare import charts, groups, main, tables
from aecli.errors import SettingError
from aecli.runs import records
from tests.commands.made import make
from tests.hostile import bounded, put

WEIRD = (
    None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**19, 10**400, "", "x" * 9_000,
    "x" * 200_000, "\x1b[2J\x07", "a\nb\r", "\ud800", "=cmd|'/C calc'!A0", "<img src=x onerror=y>",
    "$x^2$", "$\\frac{", "[red]", "${oops", "a|b", "*a*", [], {}, [[[[]]]], [{"a": [1, {"b": 2}]}],
    {"a": {"b": {"c": 1}}}, {"\x1b[31mname": 1.0}, {"=1+1": 2.0}, {"": 1.0},
)  # fmt: skip
"""What no run of aecli holds, or what does something where it is shown."""
UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        settings = {"dataset.shape": [1, 8, 8], "sparsity.weight": 0.1}
        make(tmp_path / "runs", f"{number}_x", 90.0 + number, seed=number, settings=settings, sse=1)
    return tmp_path / "runs"


def changed(tree, random):
    """Return a tree with one of its parts, deep or not, replaced by something weird."""
    if isinstance(tree, dict) and tree and random.random() < 0.8:
        name = random.choice(list(tree))
        if random.random() < 0.1:
            return {key: value for key, value in tree.items() if key != name}
        return tree | {name: changed(tree[name], random)}
    weird = random.choice(WEIRD)
    return tree | weird if isinstance(tree, dict) and isinstance(weird, dict) else weird


def damaged(data, random):
    """Return bytes with a part cut off, doubled or overwritten."""
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    middle = random.choice([b"", data[start:end] * 2, random.randbytes(end - start), b"\0"])
    return data[:start] + middle + data[random.choice([start, end]) :]


def test_whatever_the_files_hold_the_rest_is_compared(runs, capsys, caplog, tmp_path):
    chance = random.Random(0)
    files = {
        "metrics.json": (json.loads, json.dumps),
        ".hydra/config.yaml": (yaml.safe_load, yaml.safe_dump),
        ".hydra/overrides.yaml": (yaml.safe_load, yaml.safe_dump),
    }
    metrics = ("val/loss", "val/mse", "test/sse", "epochs")
    for case in range(150):
        name = chance.choice(list(files))
        path = runs / "1_x" / name
        before = path.read_bytes()
        read, write = files[name]
        if chance.random() < 0.7:
            text = write(changed(read(before.decode()), chance))
            path.write_bytes(text.encode(errors="surrogatepass"))
        else:
            path.write_bytes(damaged(before, chance))
        words = [] if chance.random() < 0.5 else ["--metric", chance.choice(metrics)]
        start = time.monotonic()
        with suppress(SettingError):  # "--metric …: no run has it"
            main(["runs", *words])
        assert time.monotonic() - start < 5
        shown = capsys.readouterr().out
        assert not UNSAFE.search(shown), f"case {case}: {shown!r}"
        assert not UNSAFE.search("".join(r.getMessage() for r in caplog.records)), f"case {case}"
        path.write_bytes(before)
    main(["runs"])  # nothing of this is left
    assert "│" in capsys.readouterr().out


@pytest.mark.parametrize("number", range(0, len(WEIRD), 3))
def test_weird_settings_and_metrics_reach_no_spreadsheet_page_or_chart(runs, tmp_path, number):
    config = runs / "1_x" / ".hydra" / "config.yaml"
    stored = runs / "1_x" / "metrics.json"
    for weird in WEIRD[number : number + 3]:
        if isinstance(weird, str) and not weird.isprintable() and not weird.isascii():
            continue
        tree = yaml.safe_load(config.read_text())
        tree["model"] |= {f"key{len(tree['model'])}": weird}
        config.write_text(yaml.safe_dump(tree))
        metrics = json.loads(stored.read_text())
        metrics["choices"] |= {f"x{len(metrics['choices'])}": weird}
        stored.write_text(json.dumps(metrics))
    main(["runs", "--output", "mine"])
    page, sheet = ((tmp_path / "mine" / f"table.{kind}").read_text() for kind in ("md", "csv"))
    assert not UNSAFE.search(page)
    assert "<img" not in page
    assert not re.search(r"(^|,)[=+@]", sheet, re.MULTILINE)


@pytest.mark.parametrize("name", ["metrics.json", ".hydra/config.yaml", ".hydra/overrides.yaml"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "nowhere", "huge"])
def test_what_is_no_ordinary_file_is_left_out_at_once(runs, caplog, capsys, name, kind):
    path = runs / "1_x" / name
    path.unlink()
    put(path, kind)
    start = time.monotonic()
    main(["runs"])
    assert time.monotonic() - start < 2
    assert "│    2 │" in capsys.readouterr().out
    if (runs / "1_x" / ".hydra" / "config.yaml").is_file():  # else it does not look like a run
        assert re.search(r"left out: .*1_x", caplog.text)


def test_numbers_whose_squares_no_float_holds_are_no_metrics(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        make(tmp_path / "runs", f"a{seed}", 1e155, seed=seed)
        make(tmp_path / "runs", f"b{seed}", 90.0 + seed, beta=2.0, seed=seed)
    main(["runs", "--metric", "val/loss"])
    assert "90.5" in capsys.readouterr().out


def test_a_run_in_progress_is_named(runs, caplog):
    (runs / "1_x" / "metrics.json").unlink()
    main(["runs"])
    assert "left out, not finished: 1_x" in caplog.text


def test_links_in_a_circle_end(runs, capsys):
    (runs / "again").symlink_to(runs)
    (runs / "0_x" / "up").symlink_to(runs)
    main(["runs", "runs/again", "runs/.", "runs/0_x/up"])
    told = capsys.readouterr().out
    assert "│    3 │" in told
    assert "counted once" not in told  # it is the same directory, not a copy


def test_a_folder_that_cannot_be_read_is_named(runs, caplog, monkeypatch):
    real = os.scandir

    def refuse(path):
        if str(path).endswith("1_x"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    main(["runs"])
    assert "left out: runs/1_x: Permission denied" in caplog.text


def png(width, height):
    """Return a picture whose header promises a size that its few bytes do not have."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def write_picture(run, data):
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = Summary.Image(height=1, width=1, colorspace=3, encoded_image_string=data)
    with SummaryWriter(str(run)) as writer:
        summary = Summary(value=[Summary.Value(tag="reconstructions", image=image)])
        writer.file_writer.add_summary(summary, 1)


def bmp():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "BMP")
    return file.getvalue()


PICTURES = {
    "a bomb": png(60_000, 60_000),
    "a smaller bomb": png(12_000, 10_000),
    "wide": png(2**31 - 1, 1),
    "tall": png(1, 5_000),
    "cut off": png(8, 8)[:48],
    "empty": b"",
    "no picture": b"x",
    "of another kind": bmp(),
}


@pytest.mark.parametrize("data", PICTURES.values(), ids=PICTURES)
def test_a_picture_that_is_a_bomb_or_damaged_is_not_drawn(runs, caplog, data):
    write_picture(runs / "0_x", data)
    main(["runs", "--output", "mine"])
    assert "not drawn: reconstructions of 0_x" in caplog.text


def test_a_picture_is_measured_before_it_is_decoded():
    with pytest.raises(SettingError, match="a picture of 6000 by 4000 pixels"):
        charts._decoded(png(6_000, 4_000))


def test_no_head_of_a_table_reaches_the_terminal_as_it_is(capsys):
    tables.show([["\x1b[2Jkey", "runs", "a\nb"], ["[red]x", "1", "2"]], 1)
    shown = capsys.readouterr().out
    assert not UNSAFE.search(shown)
    assert "[red]x" in shown
    assert "a\\nb" in shown


def test_damaged_event_files_are_not_drawn(runs, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    chance = random.Random(0)
    for run in runs.iterdir():
        with SummaryWriter(str(run)) as writer:
            for epoch in range(3):
                writer.add_scalar("val/loss", epoch, epoch)
                writer.add_scalar("epoch", epoch, epoch)
    (path,) = (runs / "1_x").glob("*tfevents*")
    before = path.read_bytes()
    (record,) = records.read([runs / "1_x"])
    for _ in range(100):
        path.write_bytes(damaged(before, chance))
        epochs, values = charts._by_epoch(charts._events(record), "val/loss")
        assert len(epochs) == len(values)
    path.unlink()
    os.mkfifo(path)
    main(["runs", "--metric", "val/loss", "--output", "mine"])
    assert "not drawn: the event files of 1_x" in caplog.text
    assert (tmp_path / "mine" / "curves.png").is_file()  # of the others


def test_event_files_too_large_are_not_read(runs, caplog):
    with (runs / "1_x" / "events.out.tfevents.1").open("wb") as file:
        file.truncate(charts.LARGEST + 1)
    main(["runs", "--output", "mine"])
    assert "not drawn: the event files of 1_x (larger than" in caplog.text


def test_hundreds_of_settings_that_differ_make_no_endless_picture(tmp_path):
    for number in range(3):
        settings = {f"optimizer.key{i}": number * i for i in range(300)}
        make(tmp_path, f"{number}", number, settings=settings)
    found, _ = groups.grouped(records.read(tmp_path.iterdir()))
    figure = charts.against_settings(found, groups.differing(found), "val/loss")
    assert len(figure.axes) == groups.MOST


OWN = ({f"m{n}": True for n in range(5000)}, [], 3, None, {"x": [1]}, {"\x1b[2J": True}, {"": {}})


@pytest.mark.parametrize("own", OWN, ids=range(len(OWN)))
def test_what_a_run_says_of_own_metrics_is_bounded(tmp_path, monkeypatch, capsys, own):
    monkeypatch.chdir(tmp_path)
    values = dict.fromkeys(own, 0.5) if isinstance(own, dict) else {}
    make(tmp_path / "runs", "a", 1.0, own_metrics=own, **values)
    make(tmp_path / "runs", "b", 2.0)
    with bounded():
        main(["runs"])
    assert not UNSAFE.search("".join(capsys.readouterr()))
