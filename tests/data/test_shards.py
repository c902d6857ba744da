"""Rows in many files: found, checked, and read as one array."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aecli.data import shards as module
from aecli.data.shards import Shards, open_shards
from aecli.errors import SettingError
from tests.hostile import bounded


def rows(count, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float16)


@pytest.fixture
def three(tmp_path):
    """Return three shards in a folder, and the rows of all."""
    arrays = {"2": rows(30, seed=2), "10": rows(5, seed=10), "1": rows(20, seed=1)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        np.save(tmp_path / f"{name}.tokens.npy", np.zeros((len(array), 2), np.int32))
    return str(tmp_path / "*.npy"), np.concatenate([arrays[name] for name in ("1", "2", "10")])


def values(shards, numbers):
    return shards.taken(torch.as_tensor(numbers)).view(shards.dtype)


def test_rows_of_all_files_come_in_the_natural_order_of_these(three):
    pattern, all_rows = three
    shards = open_shards(pattern, None)
    assert shards.shape == (55, 6)
    assert torch.equal(values(shards, np.arange(55)), torch.from_numpy(all_rows))
    assert shards.said().startswith("3 shards, 55 rows of 6 numbers, float16, 6.6e-07 GB")
    np.testing.assert_array_equal(shards[7:40:3], all_rows[7:40:3].astype(np.float32))
    np.testing.assert_array_equal(shards[54], all_rows[54].astype(np.float32))


@pytest.mark.parametrize("near", [1, 8])
@pytest.mark.parametrize("at_once", [40, 1 << 20])
def test_any_rows_in_any_order(three, monkeypatch, near, at_once):
    monkeypatch.setattr(module, "NEAR", near)
    monkeypatch.setattr(module, "READ_AT_ONCE", at_once)
    pattern, all_rows = three
    shards, draw = open_shards(pattern, None), np.random.default_rng(0)
    for count in (1, 3, 20, 200):
        numbers = draw.integers(0, 55, count)
        for wanted in (numbers, np.sort(numbers), np.unique(numbers)):
            assert torch.equal(values(shards, wanted), torch.from_numpy(all_rows[wanted]))


def test_rows_that_are_left_out_are_as_if_they_were_not_there(three):
    pattern, all_rows = three
    all_rows[19, 3] = np.nan  # beside rows that are read
    path = pattern.replace("*", "1")
    np.save(path, all_rows[:20])
    mask = np.zeros(55, bool)
    mask[[0, 5, 6, 19, 20, 54]] = True
    shards = open_shards(pattern, None).without(torch.from_numpy(mask))
    assert len(shards) == 49
    assert torch.equal(values(shards, np.arange(49)), torch.from_numpy(all_rows[~mask]))
    assert "49 rows without 6 that are left out" in shards.said()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_safetensors(tmp_path, dtype):
    x = torch.randn(9, 4).to(dtype)
    save_file({"x": x, "other": torch.zeros(2)}, tmp_path / "a.safetensors", {"of": "a model"})
    shards = open_shards(str(tmp_path / "a.safetensors"), "x")
    assert torch.equal(values(shards, np.arange(9)), x)
    np.testing.assert_array_equal(shards[:], x.float())
    with pytest.raises(SettingError, match=r"holds 2 arrays; set dataset\.key to one of"):
        open_shards(str(tmp_path / "a.safetensors"), None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_a_row_that_is_not_finite_is_named(tmp_path, dtype, wrong):
    for number in range(3):
        x = torch.full((50, 4), torch.finfo(dtype).max, dtype=dtype)
        if number == 1:
            x[33, 2] = x[40, 1] = x[40, 2] = wrong
        save_file({"x": x}, tmp_path / f"{number}.safetensors")
    shards = open_shards(str(tmp_path / "*.safetensors"), None)
    fine = np.setdiff1d(np.arange(150), [83, 90])
    assert values(shards, fine).isfinite().all()
    for wanted in (np.arange(150), np.arange(149, -1, -1), np.array([90, 83])):
        told = r"1\.safetensors: row 33 has numbers that are not finite \(1 of 4\)$"
        with pytest.raises(SettingError, match=told):
            shards.taken(torch.from_numpy(wanted.copy()))


def test_a_file_that_has_become_shorter_or_is_gone(three):
    pattern, _ = three
    shards = open_shards(pattern, None)
    with open(pattern.replace("*", "2"), "r+b") as file:  # noqa: PTH123
        file.truncate(300)
    with pytest.raises(SettingError, match=r"2\.npy: has become shorter$"):
        shards.taken(torch.arange(55))
    shards.shards[1].path.unlink()
    with pytest.raises(SettingError, match=r"2\.npy: cannot be read \(No such file"):
        shards.taken(torch.arange(55))


def refusal(*files):
    with bounded(), pytest.raises(SettingError) as refused:
        open_shards(list(map(str, files)), None)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_files_that_are_no_shards(tmp_path, three):
    pattern, all_rows = three
    assert "no such file" in refusal(tmp_path / "*.pt")
    assert "no such file" in refusal(tmp_path / "missing.npy")
    np.save(tmp_path / "wide.npy", rows(5, 7))
    assert "wide.npy has rows of 7 numbers, float16" in refusal(pattern)
    np.save(tmp_path / "wide.npy", all_rows.astype("f4"))
    assert "wide.npy has rows of 6 numbers, float32" in refusal(pattern)
    path = tmp_path / "x.npy"
    cases = {
        "no rows": (np.zeros((0, 6), "f4"), "is of shape (0, 6); must be (rows, width)"),
        "flat": (np.zeros(6, "f4"), "is of shape (6,)"),
        "deep": (np.zeros((2, 3, 6), "f4"), "is of shape (2, 3, 6)"),
        "double": (np.zeros((5, 6)), "holds float64; must be float16 or float32, or bfloat16 in"),
        "integers": (np.zeros((5, 6), int), "holds int64"),
        "order": (np.zeros((5, 6), ">f4"), "holds float32 of another byte order"),
        "columns": (np.zeros((5, 6), "f4", order="F"), "has its columns together"),
        "bfloat16": (np.zeros((5, 6), "V2"), "holds numbers of a type that NumPy does not know"),
        "objects": (np.zeros((5, 6), object), "holds pickled objects"),
    }
    for array, told in cases.values():
        np.save(path, array, allow_pickle=True)
        assert told in refusal(path)
    np.save(path, all_rows)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "cut off or damaged: its header says 660 bytes of (55, 6), and there are 659" in refusal(
        path
    )
    path.write_bytes(whole[:60])
    assert "x.npy: cannot be read" in refusal(path)
    path.write_bytes(whole.replace(b"'<f2'", b"'bfloat16'"))
    assert "x.npy: cannot be read" in refusal(path)
    for wrong in (3, [], [3], [""], None):
        with pytest.raises(SettingError, match="must be a pattern of files"):
            open_shards(wrong, None)


HUGE = 1 << 60
HEADERS = [
    {"dtype": "F16", "shape": [HUGE, HUGE], "data_offsets": [0, 2 * HUGE * HUGE]},
    {"dtype": "F16", "shape": [HUGE, 2], "data_offsets": [0, 8]},
    {"dtype": "F16", "shape": [2, 2], "data_offsets": [HUGE, HUGE + 8]},
    {"dtype": "F16", "shape": [-2, -2], "data_offsets": [0, 8]},
    {"dtype": "F16", "shape": [2, 2], "data_offsets": [-8, 0]},
    {"dtype": "F16", "shape": [2.0, 2], "data_offsets": [0, 8]},
    {"dtype": "F16", "shape": "ab", "data_offsets": [0, 8]},
    {"dtype": ["F16"], "shape": [2, 2], "data_offsets": [0, 8]},
    {"dtype": "F64", "shape": [1, 1], "data_offsets": [0, 8]},
    {"dtype": "F16"},
    [],
    "\x1b]0;x\x07",
]


@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_a_hostile_header_takes_no_memory_and_no_traceback(tmp_path, header):
    text = json.dumps({"x": header}).encode()
    for length in (len(text), HUGE, 0):
        path = tmp_path / "x.safetensors"
        path.write_bytes(struct.pack("<Q", length) + text + bytes(8))
        assert "x.safetensors: " in refusal(path)
    path.write_bytes(b"\x01")
    assert "x.safetensors: cannot be read" in refusal(path)


def test_a_hostile_npy_header_takes_no_memory(tmp_path):
    path = tmp_path / "x.npy"
    for shape in ((HUGE, HUGE), (-2, -30), (1 << 40, 576)):
        with path.open("wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(120))
        assert "x.npy: " in refusal(path)


def test_shards_tell_themselves_apart(three):
    pattern, _ = three
    one = open_shards(pattern, None)
    assert one.fingerprint == open_shards(pattern, None).fingerprint
    mask = torch.zeros(55, dtype=torch.bool)
    mask[3] = True
    others = [Shards(one.shards[:2]), one.without(mask), one.without(mask.roll(1))]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 4
