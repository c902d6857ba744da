"""Pictures of every kind become the pixels that they show."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from aecli.errors import SettingError
from aecli.pictures import Deeper, Depth, OtherSize, Reading, decode, needed, opened, pixels, quiet

WHITE, RED = (255, 255, 255), (255, 0, 0)
GREY, DEEP, RGB, RGBA = Depth(1, 8), Depth(1, 16), Depth(3, 8), Depth(4, 8)


def read(path, depth, size=None, resize=None, background=WHITE):
    with quiet():
        image = opened(str(path))
        size = size or image.size[::-1]
        return pixels(image, Reading(depth, depth, size, resize, background))


def colours(height=6, width=8, channels=3):
    shape = (height, width, channels)[: 2 + (channels > 1)]
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def smooth(height, width):
    """Return grey values that grow from left to right and from top to bottom."""
    down, right = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    return (100 * down + 150 * right).astype(np.uint8)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "gif"])
def test_what_is_written_without_loss_is_read_again(tmp_path, ending):
    values = colours() // 64 * 64  # few enough for a palette
    settings = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(values).save(path := tmp_path / f"a.{ending}", **settings)
    found = read(path, RGB)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, values.transpose(2, 0, 1))


def test_jpeg(tmp_path):
    Image.fromarray(smooth(32, 48)).save(path := tmp_path / "a.jpg", quality=95)
    assert np.abs(read(path, GREY)[0].astype(int) - smooth(32, 48)).max() < 8


MODES = {
    "1": (GREY, [0, 255]),
    "L": (GREY, [50]),
    "I;16": (DEEP, [50 * 257]),
    "P": (RGB, [50, 100, 150]),
    "RGB": (RGB, [50, 100, 150]),
    "CMYK": (RGB, [50, 100, 150]),
    "YCbCr": (RGB, [50, 100, 150]),
}


@pytest.mark.parametrize(("mode", "depth", "values"), [(m, *v) for m, v in MODES.items()])
def test_the_depth_and_the_values_of_each_mode(tmp_path, mode, depth, values):
    image = Image.new("RGB", (4, 4), (50, 100, 150))
    if depth == GREY:
        image = Image.new("L", (4, 4), 50)
    if mode == "1":
        image.putpixel((0, 0), 255)
        image = image.point(lambda v: 255 * (v > 128)).convert("1")
    elif mode == "I;16":
        image = Image.fromarray(np.full((4, 4), 50 * 257, np.uint16))
    else:
        image = image.convert(mode)
    image.save(path := tmp_path / "a.tif")
    found = opened(str(path))
    if mode == "YCbCr" and found.mode != mode:
        pytest.skip("this version of Pillow does not read a tif of this mode")
    assert found.mode == mode
    assert needed(found, Depth(3, 16)) == depth
    seen = read(path, depth)
    for channel, value in zip(seen, values if depth == RGB else [values], strict=True):
        np.testing.assert_allclose(np.unique(channel), value, atol=4)


def test_a_grey_palette_is_grey(tmp_path):
    image = Image.fromarray(smooth(4, 4)).convert("P")
    image.save(path := tmp_path / "a.png")
    assert opened(str(path)).mode == "P"
    assert needed(opened(str(path)), Depth(3, 16)) == GREY
    np.testing.assert_array_equal(read(path, GREY)[0], smooth(4, 4))


def test_no_more_is_needed_than_is_wanted(tmp_path):
    Image.fromarray(colours()).save(path := tmp_path / "a.png")
    assert needed(opened(str(path)), Depth(1, 16)) == GREY


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bits_are_kept(tmp_path, order):
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000 + 7
    Image.fromarray(values.astype(order)).save(path := tmp_path / "a.tif")
    found = read(path, DEEP)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[0], values)
    np.testing.assert_array_equal(read(path, GREY)[0], np.round(values / 257))
    np.testing.assert_array_equal(read(path, RGB), np.round(values / 257)[None].repeat(3, 0))


def test_16_bits_in_a_png(tmp_path):
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000 + 7
    Image.fromarray(values).save(path := tmp_path / "a.png")
    np.testing.assert_array_equal(read(path, DEEP)[0], values)


def test_8_bits_among_16_fill_the_range(tmp_path):
    Image.fromarray(np.array([[0, 128, 255]], np.uint8)).save(path := tmp_path / "a.png")
    assert read(path, DEEP).tolist() == [[[0, 128 * 257, 65535]]]


@pytest.mark.parametrize("value", [-1, 65536])
def test_more_than_16_bits_are_refused(tmp_path, value):
    Image.fromarray(np.full((2, 2), value, np.int32)).save(path := tmp_path / "a.tif")
    with pytest.raises(ValueError, match="more than 16 bits"):
        read(path, DEEP)


def test_floats_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(path := tmp_path / "a.tif")
    with pytest.raises(ValueError, match="floats"):
        read(path, GREY)


ORIENTATIONS = {
    1: lambda v: v,
    2: lambda v: v[:, ::-1],
    3: lambda v: v[::-1, ::-1],
    4: lambda v: v[::-1],
    5: lambda v: v.T,
    6: lambda v: np.rot90(v, -1),
    7: lambda v: v[::-1, ::-1].T,
    8: lambda v: np.rot90(v),
}


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(tmp_path, orientation, ending):
    values, exif = colours(channels=1), Image.Exif()
    exif[0x0112] = orientation
    settings = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(values).save(path := tmp_path / f"a.{ending}", exif=exif, **settings)
    expected = ORIENTATIONS[orientation](values)
    np.testing.assert_array_equal(read(path, GREY, expected.shape)[0], expected)


@pytest.mark.parametrize(("depth", "expected"), [(RGB, [[[255]], [[127]], [[127]]]), (GREY, None)])
def test_transparency_lies_over_the_background(tmp_path, depth, expected):
    Image.new("RGBA", (1, 1), (255, 255, 255, 127)).save(path := tmp_path / "a.png")
    found = read(path, depth, background=RED)
    if expected is None:
        expected = [[[round(0.299 * 255 + 0.701 * 127)]]]
    np.testing.assert_allclose(found.astype(int), expected, atol=1)


def test_a_transparent_colour_of_a_palette(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    image.save(path := tmp_path / "a.gif", transparency=0)
    assert read(path, RGB, background=RED)[:, 0].T.tolist() == [[255, 0, 0], [0, 255, 0]]


def test_alpha_is_kept_if_it_is_wanted(tmp_path):
    Image.new("RGBA", (1, 1), (9, 8, 7, 6)).save(path := tmp_path / "a.png")
    assert read(path, RGBA).flatten().tolist() == [9, 8, 7, 6]
    Image.new("L", (1, 1), 5).save(path)
    assert read(path, RGBA).flatten().tolist() == [5, 5, 5, 255]


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (3, 2), colour) for colour in (RED, (0, 0, 255))]
    frames[0].save(path := tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert opened(str(path)).n_frames == 2
    assert np.unique(read(path, RGB).reshape(3, -1), axis=1).T.tolist() == [list(RED)]


def test_crop_keeps_the_middle(tmp_path):
    values = np.zeros((10, 30), np.uint8)
    values[:, 10:20] = 200
    Image.fromarray(values).save(path := tmp_path / "a.png")
    assert (read(path, GREY, (10, 10), "crop") == 200).all()


def test_pad_keeps_all(tmp_path):
    Image.fromarray(np.full((10, 30), 200, np.uint8)).save(path := tmp_path / "a.png")
    found = read(path, GREY, (15, 15), "pad", background=RED)[0]
    assert (found[5:10] == 200).all()
    assert (found[:5] == 76).all()  # red, in grey
    assert (found[10:] == 76).all()


def test_pad_of_16_bits(tmp_path):
    Image.fromarray(np.full((10, 30), 20_000, np.uint16)).save(path := tmp_path / "a.png")
    found = read(path, DEEP, (15, 15), "pad")[0]
    assert (found[5:10] == 20_000).all()
    assert (found[:5] == 65535).all()


def test_stretch_fills_the_size(tmp_path):
    values = np.zeros((10, 40), np.uint8)
    values[:, 20:] = 200
    Image.fromarray(values).save(path := tmp_path / "a.png")
    found = read(path, GREY, (20, 20), "stretch")[0]
    assert (found[:, :8] == 0).all()
    assert (found[:, 12:] == 200).all()


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20_000), (20_000, 1)])
def test_extreme_sizes(tmp_path, shape, resize):
    Image.fromarray(np.full(shape, 7, np.uint8)).save(path := tmp_path / "a.png")
    assert read(path, GREY, (6, 5), resize).shape == (1, 6, 5)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_no_smaller_than_it_is_needed(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    squares = np.random.default_rng(0).integers(0, 2, (50, 75), np.uint8) * 200
    values = squares.repeat(8, 0).repeat(8, 1)
    Image.fromarray(values).save(path := tmp_path / "a.jpg", exif=exif, quality=95)
    expected = np.asarray(Image.fromarray(ORIENTATIONS[orientation](values)).resize((100, 100)))
    found = read(path, GREY, (100, 100), "stretch")[0]
    assert np.abs(found.astype(int) - expected).mean() < 3


def test_another_size_is_refused_without_resize(tmp_path):
    Image.fromarray(colours(6, 8)).save(path := tmp_path / "a.png")
    with pytest.raises(OtherSize, match=r"^6 × 8$"):
        read(path, RGB, (8, 6))


def test_a_deeper_picture_is_told(tmp_path):
    Image.fromarray(colours()).save(path := tmp_path / "a.png")
    with pytest.raises(Deeper) as error:
        pixels(opened(str(path)), Reading(GREY, Depth(3, 16), (6, 8), None, WHITE))
    assert error.value.args == (RGB,)


@pytest.mark.parametrize("order", [(GREY, DEEP, RGB), (RGB, DEEP, GREY), (DEEP, RGB, GREY)])
def test_depths_are_joined_in_any_order(order):
    depth = order[0]
    for other in order[1:]:
        depth = depth.joined(other)
    assert depth == RGB
    assert GREY.joined(DEEP) == DEEP.joined(GREY) == DEEP


def png(values):
    contents = io.BytesIO()
    Image.fromarray(values).save(contents, format="PNG")
    return contents.getvalue()


def bomb(side):
    """Return a small file whose header says that it has so many pixels on each side."""
    contents = png(colours())
    header = b"IHDR" + struct.pack(">II", side, side) + contents[24:29]
    return contents[:12] + header + struct.pack(">I", zlib.crc32(header)) + contents[33:]


UNREAD = {
    "a text": (b"hello", "is no picture"),
    "nothing": (b"", "is no picture"),
    "half a picture": (png(colours(50, 50))[:-900], "truncated"),
    "a bomb": (bomb(20_000), "has more than 89,478,485 pixels"),
    "a small bomb": (bomb(9_500), "has more than 89,478,485 pixels"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no picture"),
}


@pytest.mark.parametrize(("contents", "told"), UNREAD.values(), ids=UNREAD)
def test_what_cannot_be_read_is_left_out(tmp_path, contents, told):
    (tmp_path / "b.png").write_bytes(contents)
    for name in "ac":
        (tmp_path / f"{name}.png").write_bytes(png(np.full((2, 2), ord(name), np.uint8)))
    (place := tmp_path / "pixels").write_bytes(bytes(5 + 12))
    paths = [str(tmp_path / f"{name}.png") for name in "abc"]
    ((number, why),) = decode(place, 5, 0, paths, Reading(GREY, GREY, (2, 2), None, WHITE))
    assert number == 1
    assert told in why
    assert place.read_bytes() == bytes(5) + b"aaaa" + bytes(4) + b"cccc"


def test_what_is_no_file_is_left_out(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "b.png")
    (place := tmp_path / "pixels").write_bytes(bytes(12))
    paths = [str(tmp_path / f"{name}.png") for name in "abc"]
    unread = decode(place, 0, 0, paths, Reading(GREY, GREY, (2, 2), None, WHITE))
    assert [number for number, _ in unread] == [0, 1, 2]
    assert unread[0][1] == "is no regular file"
    assert unread[2][1] == "No such file or directory"


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    (path := tmp_path / "a.png").write_bytes(png(colours()))
    monkeypatch.setattr("aecli.pictures.MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(ValueError, match="is larger than"):
        opened(str(path))


def test_another_size_names_both(tmp_path):
    (tmp_path / "a.png").write_bytes(png(colours(3, 3)))
    (place := tmp_path / "pixels").touch()
    reading = Reading(RGB, RGB, (2, 2), None, WHITE, "b.png is 2 × 2")
    with pytest.raises(SettingError, match=r"/a.png: is 3 × 3; b.png is 2 × 2$"):
        decode(place, 0, 0, [str(tmp_path / "a.png")], reading)
