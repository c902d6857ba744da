"""Files of arrays, as a stranger or a failing disk may make them."""

import io
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
import torch

from aecli.data import arrays
from aecli.errors import SettingError

X = np.arange(12.0, dtype="f4").reshape(4, 3)


def read(path, key=None):
    return arrays.read_array(path, key)


def refused(path, says, key=None):
    with pytest.raises(SettingError, match=says) as caught:
        read(path, key)
    assert "\n" not in str(caught.value)


def npy(shape, descr="<f4", order=False, rest=b""):
    """Return the bytes of an `.npy` with such a header."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": order, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + rest


def whole():
    file = io.BytesIO()
    np.save(file, X)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (whole()[:-1], "cut off or damaged: its header says 48 bytes of .*, and there are 47"),
        (whole() + b"1", "cut off or damaged"),
        (whole()[:30], "cannot be read"),
        (b"", "cannot be read"),
        (b"a,b\n1,2\n", "cannot be read"),
        (npy((10**15, 10**6)), "cut off or damaged: its header says 4,000,000,000,000,000,000,000"),
        (npy((-2, -6), rest=bytes(48)), "cannot be read"),
        (npy((4, 3), [("a", "<f4")], rest=bytes(48)), "holds objects, and must hold numbers"),
        (npy((4, 3), "|O", rest=bytes(96)), "holds pickled objects, which are never loaded"),
    ],
)
def test_npy(tmp_path, content, says):
    path = tmp_path / "x.npy"
    path.write_bytes(whole())
    np.testing.assert_array_equal(read(path), X)
    path.write_bytes(content)
    refused(path, rf"x\.npy: {says}")


class Trap:
    def __reduce__(self):
        return os._exit, (66,)


def test_no_pickle_is_loaded(tmp_path):
    trap = np.array([Trap()], dtype=object)
    np.save(tmp_path / "x.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "x.npz", trap)
    torch.save({"x": Trap()}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("x.npy", pickle.dumps(trap))
    for name, says in {
        "x.npy": "pickled objects",
        "x.npz": "pickled objects",
        "y.npz": "cannot be read",
        "x.pt": "cannot be read .it refers to",
    }.items():
        refused(tmp_path / name, rf"{name[0]}\{name[1:]}: .*{says}")


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    refused(tmp_path / "folder.npy", "is no regular file")
    refused(tmp_path / "pipe.npy", "is no regular file")
    refused(tmp_path / "none.npy", "no such file")
    refused(tmp_path / "x.mat", r"must end in one of \.npy, \.npz")


def test_npz(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=X)
    np.testing.assert_array_equal(read(path), X)
    np.savez(path, a=X, b=X + 1, c=X.astype(">i4"))
    np.testing.assert_array_equal(read(path, "b"), X + 1)
    assert read(path, "c").dtype.isnative
    refused(path, "holds 3 arrays; set dataset.key to one of a, b, c")
    refused(path, r"^dataset\.key=d: must be one of a, b, c$", "d")
    path.write_bytes(path.read_bytes()[:-40])
    refused(path, r"x\.npz: cannot be read", "a")


def test_an_npz_takes_no_memory_that_there_is_not(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy((10**12, 3), rest=bytes(100)))
    refused(path, r"x\.npz: cannot be read .its array \(1000000000000, 3\) is cut off")
    np.savez_compressed(path, a=np.zeros((1000, 1000)))  # of some kilobytes
    monkeypatch.setattr("aecli.size.memory", lambda: 7_000_000)
    refused(path, r"x\.npz: its array would take 8 MB of memory, and there are 7 MB")


def test_pt(tmp_path):
    path, x = tmp_path / "x.pt", torch.tensor(X)
    torch.save(x, path)
    np.testing.assert_array_equal(read(path), X)
    refused(path, r"^dataset\.key=a: .* holds one array without a name", "a")
    for dtype in (torch.bfloat16, torch.half, torch.int8, torch.int16, torch.bool, torch.uint8):
        torch.save({"a": x.to(dtype), 3: x}, path)
        np.testing.assert_array_equal(read(path, "a"), x.to(dtype).to(torch.float32).numpy())
    np.testing.assert_array_equal(read(path, "3"), X)
    refused(path, "holds 2 arrays; set dataset.key to one of a, 3")
    torch.save([x], path)
    refused(path, "holds no tensor")
    torch.save(x, path, _use_new_zipfile_serialization=False)
    refused(path, r"x\.pt: cannot be read .no zip archive")
    torch.save(torch.zeros(1).expand(10**9, 1000), path)  # one number, seen again and again
    refused(path, "its array would take 4 TB of memory")


def test_safetensors(tmp_path):
    pytest.importorskip("safetensors")
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    save_file({"a": torch.tensor(X), "b": torch.tensor(X).bfloat16()}, path)
    np.testing.assert_array_equal(read(path, "a"), X)
    np.testing.assert_array_equal(read(path, "b"), X)
    refused(path, "holds 2 arrays")
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, r"x\.safetensors: cannot be read", "a")


def test_h5(tmp_path):
    h5py = pytest.importorskip("h5py")
    path, other = tmp_path / "x.h5", tmp_path / "other"
    other.write_bytes(bytes(100))
    with h5py.File(path, "w") as file:
        file["group/a"] = X
        file["names"] = ["wren", "tit"]
        file["fixed"] = np.array([b"wren", b"tit"])
        file["swapped"] = X.astype(">f4")
        file.create_dataset("huge", (10**9, 10**3), "f4", chunks=(100, 100), compression="gzip")
        file.create_dataset("outside", (3, 3), "f4", external=[(str(other), 0, 36)])
        file["link"] = h5py.ExternalLink(str(other), "x")
    np.testing.assert_array_equal(read(path, "group/a"), X)
    assert read(path, "swapped").dtype.isnative
    for name in ("names", "fixed"):
        assert read(path, name).tolist() == ["wren", "tit"]
    refused(path, "holds 6 arrays; set dataset.key to one of .*group/a, huge, names")
    refused(path, "its array would take 4 TB of memory", "huge")
    refused(path, r"x\.h5: cannot be read .its array lies in other files", "outside")
    refused(path, r"^dataset\.key=link: must be one of", "link")
    path.write_bytes(b"no such format")
    refused(path, r"x\.h5: cannot be read")


@pytest.mark.parametrize(
    ("ending", "module", "extra"),
    [("h5", "h5py", "hdf5"), ("safetensors", "safetensors", "export")],
)
def test_the_line_that_installs_what_lacks(tmp_path, monkeypatch, ending, module, extra):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    refused(path, rf'needs {module}, not installed; pip install "aecli\[{extra}\]"')
