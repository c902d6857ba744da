"""Rows and images in a file: read, refused, scaled, and given back as they were."""

import os

import numpy as np
import pytest
import torch

from aecli.data import ArrayCard, ArrayData, array, arrays, mapped
from aecli.data.records import card_of
from aecli.errors import SettingError

ROWS = np.random.default_rng(0).normal(5, 3, (40, 6))
PICTURES = np.random.default_rng(0).integers(0, 256, (40, 5, 4), dtype=np.uint8)
TYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "?", ">f4", ">i2")


def data(folder, values, **settings):
    """Save an array and return its data module, set up."""
    np.save(folder / "x.npy", values)
    return opened(folder / "x.npy", **settings)


def opened(path, card=None, **settings):
    sizes = {"shape": None, "batch_size": 8, "validation_size": None}
    module = ArrayData(str(path), **sizes | settings)
    if card is None:
        module.setup()
    else:
        module.of_run(card, None)
        module.setup_new()
    return module


def split(module, name="train"):
    """Return what the model sees of a split, and the rows of the array that it is."""
    (batch,) = module.batches(name, 1000)
    return batch.original, module.splits[name].rows


def test_rows_are_standardized_by_the_training_split_alone(tmp_path):
    values = ROWS.copy()
    values[:, 2] = 7.1  # does not vary: 0, but for rounding
    module = data(tmp_path, values)
    x, rows = split(module)
    train = values[rows]
    wanted = (train - train.mean(0)) / np.where(train.std(0) > 1e-9, train.std(0), 1)
    torch.testing.assert_close(x, torch.tensor(wanted).float())
    assert x[:, 2].abs().max() < 1e-12
    other, rows = split(module, "test")
    wanted = (values[rows] - train.mean(0)) / np.where(train.std(0) > 1e-9, train.std(0), 1)
    torch.testing.assert_close(other, torch.tensor(wanted).float())
    assert "40 rows of 6 numbers, float64, from x.npy" in module.understood


def test_the_moments_are_those_of_all_pieces_together(tmp_path, monkeypatch):
    values = 1e6 + np.random.default_rng(0).normal(0, 1e-2, (500, 3))  # float32 would lose them
    monkeypatch.setattr("aecli.data.moments.CHUNK", 7 * values[:1].nbytes)
    module = data(tmp_path, values)
    train = values[module.splits["train"].rows]
    np.testing.assert_allclose(module.card.shift, train.mean(0), rtol=1e-13)
    np.testing.assert_allclose(module.card.scale, train.std(0), rtol=1e-7)
    x, _ = split(module)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(3), rtol=1e-5, atol=0)
    images = data(tmp_path, values.reshape(-1, 1, 3) * 2, scale="standard")
    train = 2 * values[images.splits["train"].rows]
    np.testing.assert_allclose(images.card.scale, train.std(), rtol=1e-7)


@pytest.mark.parametrize(
    ("values", "scale", "low", "high"),
    [
        (PICTURES, "auto", 0, 1),
        (PICTURES, "minmax", 0, 1),
        (PICTURES / 255.0, "auto", None, None),
        (PICTURES * 3.0, "auto", 0, 1),
        (PICTURES.astype("u2") * 9, "auto", 0, 1),
        (PICTURES > 99, "auto", 0, 1),
        (PICTURES.astype("f4"), "none", None, None),
    ],
)
def test_images_are_scaled_into_the_unit_interval(tmp_path, values, scale, low, high):
    module = data(tmp_path, values, scale=scale)
    x, rows = split(module)
    if low is None:
        torch.testing.assert_close(x, torch.tensor(values[rows][:, None]).float())
    else:
        assert (x.min(), x.max()) == (low, high)
    assert torch.equal(module.values().aminmax().max, x.max())
    if values.dtype == np.uint8 and scale == "auto":
        assert torch.equal(x, torch.tensor(values[rows][:, None]) / 255)


def test_the_ends_show_whether_a_likelihood_fits(tmp_path):
    assert data(tmp_path, PICTURES > 99).values().tolist() == [0, 1]
    grey = data(tmp_path, PICTURES).values()
    assert ((grey > 0) & (grey < 1)).any()
    binary = np.zeros((40, 5, 4))
    binary[::2] = 1
    assert data(tmp_path, binary).values().tolist() == [0, 1]
    binary[:, 1, 1] = np.linspace(0, 1, 40)  # a single grey pixel
    assert len(data(tmp_path, binary).values()) > 2


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_comes_back_as_it_was(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 100, (30, 6)).astype(dtype)
    module = data(tmp_path, values)
    x, rows = split(module)
    restored = module.card.restored(x)
    assert restored.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_allclose(restored, values[rows], rtol=1e-5, atol=1e-5)
    far = module.card.restored(torch.full((1, 6), 1e30))
    assert np.isfinite(far).all()
    assert (far >= values.max()).all()


@pytest.mark.parametrize(
    ("shape", "layout", "read_as", "seen"),
    [
        ((30, 6), "auto", "rows", (6,)),
        ((30, 6, 5), "auto", "images", (1, 6, 5)),
        ((30, 6, 5), "rows", "rows", (30,)),
        ((30, 3, 6, 5), "auto", "channels_first", (3, 6, 5)),
        ((30, 2, 6, 5), "auto", "channels_first", (2, 6, 5)),
        ((30, 6, 5, 3), "auto", "channels_last", (3, 6, 5)),
        ((30, 3, 5, 3), "auto", "channels_first", (3, 5, 3)),
        ((30, 3, 5, 3), "channels_last", "channels_last", (3, 3, 5)),
    ],
)
def test_layouts(tmp_path, shape, layout, read_as, seen):
    values = np.random.default_rng(0).random(shape)
    module = data(tmp_path, values, layout=layout, scale="none")
    x, rows = split(module)
    assert module.card.layout == read_as
    assert x.shape[1:] == seen
    assert module.shape == seen
    np.testing.assert_allclose(module.card.restored(x), values[rows], rtol=1e-6)
    if read_as == "channels_last":
        np.testing.assert_allclose(x[:, 1], values[rows][..., 1], rtol=1e-6)
    says = f"read as dataset.layout={read_as}"
    assert (says in module.understood) == (layout == "auto" and len(shape) > 2)


def test_a_checkpoint_gives_the_card_back(tmp_path):
    card = data(tmp_path, ROWS).card
    torch.save(card.state(), tmp_path / "card.pt")
    again = card_of("array", torch.load(tmp_path / "card.pt", weights_only=True))
    x = torch.rand(3, 6)
    np.testing.assert_array_equal(again.restored(x), card.restored(x))
    made_up = [
        {"layout": "columns"},
        {"layout": "images"},
        {"raw": [-2, -3]},
        {"dtype": "object"},
        {"shift": torch.zeros(7)},
        {"shift": torch.full((6,), torch.nan)},
        {"scale": torch.zeros(6)},
    ]
    for change in made_up:
        with pytest.raises(SettingError):
            ArrayCard.of_state(card.state() | change)


def test_new_data_is_read_as_the_runs_own(tmp_path):
    own = data(tmp_path, ROWS)
    np.save(tmp_path / "new.npy", ROWS[:5].astype("f2"))
    new = opened(tmp_path / "new.npy", own.card)
    x, _ = split(new, "new")
    torch.testing.assert_close(x, own.card.scaled(torch.tensor(ROWS[:5])), rtol=1e-2, atol=1e-2)
    rgb = data(tmp_path, np.random.default_rng(0).random((30, 3, 5, 3)), layout="channels_last")
    np.save(tmp_path / "new.npy", np.ones((1, 3, 5, 3)))
    assert opened(tmp_path / "new.npy", rgb.card).splits["new"].values.shape == (1, 3, 3, 5)


@pytest.mark.parametrize(
    ("own", "new", "says"),
    [
        (ROWS, ROWS[:, :5], "has rows of 5 numbers; the run was trained on rows of 6 numbers"),
        (PICTURES, ROWS, "has rows of 6 numbers; the run was trained on examples of 5 × 4"),
        (PICTURES, PICTURES / 255, r"holds numbers \(float64\); .* on bytes \(uint8\)"),
        (PICTURES, PICTURES > 9, r"holds booleans \(bool\); the run was trained on bytes"),
        (PICTURES, PICTURES.astype("u2"), r"holds numbers \(uint16\); .* on bytes"),
        (ROWS, np.full((2, 6), np.nan), r"not finite, or beyond ±1e\+30: 12, the first"),
    ],
)
def test_new_data_that_does_not_go_with_the_run(tmp_path, own, new, says):
    card = data(tmp_path, own).card
    np.save(tmp_path / "new.npy", new)
    with pytest.raises(SettingError, match=r"^dataset\.file.*" + says):
        opened(tmp_path / "new.npy", card)


def wrong(at, value, dtype="f8"):
    values = ROWS.astype(dtype)
    for place in at:
        values[place] = value
    return values


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            wrong([(3, 1), (39, 5)], np.nan, "f4"),
            r"beyond ±1e\+30: 2, the first at \(3, 1\), \(39, 5",
        ),
        (wrong([(38, 0)], -np.inf, "f2"), r"not finite: 1, the first at \(38, 0\)"),
        (wrong([(38, 0)], 1e39), r"or beyond ±1e\+30: 1, the first at \(38, 0\)"),
        (wrong([0], np.nan), r"6, the first at \(0, 0\), \(0, 1\), \(0, 2\), \(0, 3\), \(0, 4\)$"),
        (wrong([(1, 1)], -(1 << 24) - 1, "i8"), r"integers beyond ±16,777,216, .*: 1, .* \(1, 1\)"),
        (wrong([(1, 1)], (1 << 64) - 1, "u8"), "integers beyond"),
        (np.zeros((0, 6)), r"has no examples: its shape is \(0, 6\)"),
        (np.zeros((6, 0)), r"is of shape \(6, 0\); must be \(N, D\)"),
        (np.zeros(6), r"is of shape \(6,\); must be \(N, D\)"),
        (np.zeros((2, 2, 2, 2, 2)), "must be"),
        (ROWS.astype("c8"), "holds complex64"),
        (ROWS.astype("U3"), "holds <U3"),
        (ROWS.astype("M8[s]"), "holds datetime64"),
        (ROWS.astype(np.longdouble), "holds float128|holds longdouble"),
    ],
)
def test_numbers_that_cannot_be_used(tmp_path, values, says, monkeypatch):
    monkeypatch.setattr("aecli.data.moments.CHUNK", 100)
    if values.dtype == np.float64 and np.longdouble == np.float64:
        pytest.skip("has no longer floats")
    with pytest.raises(SettingError, match=r"^dataset\.file=x\.npy: .*(" + says + ")"):
        data(tmp_path, values)


def test_one_row_cannot_be_split(tmp_path):
    with pytest.raises(SettingError, match="must leave examples to train on"):
        data(tmp_path, ROWS[:1])
    card = data(tmp_path, ROWS).card
    np.save(tmp_path / "one.npy", ROWS[:1])
    assert len(opened(tmp_path / "one.npy", card).splits["new"]) == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"layout": "images"}, r"^dataset\.layout=images: does not go with .* \(40, 6\)"),
        ({"layout": "columns"}, r"^dataset\.layout=columns: must be one of auto, rows"),
        ({"scale": "robust"}, r"^dataset\.scale=robust: must be one of auto, none"),
        ({"key": "x"}, r"^dataset\.key=x: .*x\.npy holds one array without a name"),
        ({"key": 3}, r"^dataset\.key=3: must be a text"),
        ({"labels": "y"}, r"^dataset\.labels=y: .*holds one array without a name"),
        ({"ids": "none.npy"}, r"=none\.npy: no such file"),
    ],
)
def test_settings_that_do_not_go_with_the_file(tmp_path, settings, says):
    with pytest.raises(SettingError, match=says):
        data(tmp_path, ROWS, **settings)


def test_a_file_is_needed():
    with pytest.raises(SettingError, match=r"^dataset\.file: must be the path"):
        ArrayData(None, shape=None, batch_size=8, validation_size=None).setup()


def test_labels_and_ids_stand_beside(tmp_path):
    names = np.array([f"bird {n}" for n in range(40)])
    kinds = np.array(["wren", "tit"])[np.arange(40) % 2]
    np.savez(
        tmp_path / "x.npz", x=ROWS, kind=kinds, name=names, half=ROWS[:, 0], raw=[b"\xff"] * 40
    )
    module = opened(tmp_path / "x.npz", key="x", labels="kind", ids="name")
    test = module.splits["test"]
    assert module.class_names == ("tit", "wren")
    assert module.names(test.labels) == kinds[test.rows].tolist()
    assert test.ids.tolist() == names[test.rows].tolist()
    assert "labels of 2 classes" in module.understood
    np.save(tmp_path / "y.npy", np.arange(40.0) % 3)  # whole floats
    np.save(tmp_path / "ids.npy", np.array([name.encode() for name in names]))
    beside = {name: str(tmp_path / f"{name}.npy") for name in ("y", "ids")}
    module = opened(tmp_path / "x.npz", key="x", labels=beside["y"], ids=beside["ids"])
    test = module.splits["test"]
    assert test.labels.tolist() == (test.rows % 3).tolist()
    assert test.ids.tolist() == names[test.rows].tolist()
    for name, says in {
        "half": "holds floats",
        "x": "is of shape",
        "none": "must be one of",
    }.items():
        with pytest.raises(SettingError, match=r"^dataset\.labels.*" + says):
            opened(tmp_path / "x.npz", key="x", labels=name)
    with pytest.raises(SettingError, match=r"^dataset\.ids=raw: is no UTF-8"):
        opened(tmp_path / "x.npz", key="x", ids="raw")


@pytest.fixture
def on_disk(monkeypatch):
    """Leave every array in its file; count the readings of it."""
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    sizes, preadv = [], os.preadv

    def counted(descriptor, buffers, offset):
        sizes.append(len(buffers[0]))
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", counted)
    return sizes


@pytest.mark.filterwarnings("error")  # torch wonders at memory that must not be written to
@pytest.mark.parametrize("values", [ROWS, PICTURES, np.random.default_rng(0).random((40, 5, 4, 3))])
def test_a_mapped_array_gives_the_same_batches(tmp_path, on_disk, monkeypatch, values):
    mapped_one = data(tmp_path, values)
    assert "left on the disk" in mapped_one.understood
    batches = [list(mapped_one.batches(name)) for name in mapped_one.splits]
    assert on_disk
    monkeypatch.setattr(arrays, "IN_MEMORY", 1 << 20)
    whole = data(tmp_path, values)
    assert "left on the disk" not in whole.understood
    on_disk.clear()
    for name, own in zip(whole.splits, batches, strict=True):
        for one, other in zip(whole.batches(name), own, strict=True):
            assert torch.equal(one.x, other.x)
    torch.manual_seed(0)
    shuffled = list(mapped_one.train_dataloader())
    assert on_disk
    for one, other in zip(whole.train_dataloader(), shuffled, strict=True):
        assert torch.equal(one.x, other.x)


def test_rows_of_a_mapped_array_are_read_alone_or_with_those_between(tmp_path, on_disk):
    examples = data(tmp_path, ROWS).splits["train"].examples
    for rows, sizes in (([5, 39, 5, 0], [48] * 4), ([9, 7, 6, 7], [4 * 48]), ([3], [48])):
        on_disk.clear()
        np.testing.assert_array_equal(examples.taken(torch.tensor(rows)), ROWS[rows])
        assert on_disk == sizes
    assert examples.taken(torch.tensor([], dtype=torch.long)).shape == (0, 6)
    assert examples.to(torch.device("meta")).file is None


def test_a_mapped_file_that_is_cut_off_meanwhile(tmp_path, on_disk):
    examples = data(tmp_path, ROWS).splits["train"].examples
    os.truncate(tmp_path / "x.npy", 1000)
    with pytest.raises(SettingError, match=r"x\.npy: has become shorter"):
        examples.taken(torch.tensor([0, 39]))


@pytest.mark.parametrize("kind", ["fortran", "big-endian"])
def test_what_torch_cannot_map_is_copied_if_it_fits(tmp_path, on_disk, monkeypatch, kind):
    values = np.asfortranarray(ROWS) if kind == "fortran" else ROWS.astype(">f8")
    module = data(tmp_path, values)
    assert mapped.mapping_of(module.source.read(None, None).data) is None
    x, rows = split(module)
    np.testing.assert_allclose(module.card.restored(x), ROWS[rows], rtol=1e-5)
    monkeypatch.setattr("aecli.size.memory", lambda: ROWS.nbytes - 1)
    with pytest.raises(SettingError, match=r"x\.npy: a copy in memory would take 1\.92 kB"):
        data(tmp_path, values)


def test_an_array_larger_than_the_memory_is_mapped(tmp_path):
    from psutil import swap_memory, virtual_memory

    rows = 2 * (virtual_memory().total + swap_memory().total) >> 20  # of 1 MB
    header = {"descr": "<f2", "fortran_order": False, "shape": (rows, 1 << 19)}
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        try:
            file.truncate(file.tell() + (rows << 20))  # no byte of it is written
        except OSError:
            pytest.skip("the disk has no files with holes of this size")
    found = arrays.read_array(tmp_path / "x.npy", None)
    values = mapped.as_tensor(found)
    assert values.shape == (rows, 1 << 19)
    assert not values[-1].any()
    mapped.release(mapped.mapping_of(found))


def test_channels_of_an_image_stand_first_or_last():
    for channels in (1, 3, 4):
        assert array.layout_of((9, channels, 8, 8), "auto", "") == "channels_first"
        assert array.layout_of((9, 8, 8, channels), "auto", "") == "channels_last"
