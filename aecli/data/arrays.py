"""Files that hold arrays: read without pickle, and without taking memory that there is not."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from aecli.errors import SettingError
from aecli.npy import npy_header
from aecli.size import check_fits
from aecli.text import first_line, installs, one_line
from aecli.untrusted import size_of

IN_MEMORY = 512 << 20
"""Bytes of an `.npy` up to which it is read into memory; larger ones are memory-mapped."""


def read_array(path: Path, key: str | None, setting: str = "dataset.key") -> np.ndarray:
    """Return the array in a file, by its ending, read-only; a large `.npy` is memory-mapped.

    `key` names the array in a file that holds several; `setting` is what it is typed as.

    Raises `SettingError` for a file that is missing, damaged, of another kind, too large for the
    memory, or that would have to be unpickled.
    """
    place, name = setting.replace(".key", ".file"), path.suffix.lower()
    if name not in READERS:
        raise SettingError(
            f"{place}={one_line(path)}: must end in one of {', '.join(READERS)}; tables are"
            " dataset=table"
        )
    with plain_errors(path, place):
        size_of(path)
        array = READERS[name](path, Names(path, key, setting))
    if array.dtype.hasobject or array.dtype.names:
        raise SettingError(f"{one_line(path)}: holds objects, and must hold numbers or texts")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


@contextmanager
def plain_errors(path: Path, key: str = "dataset.file") -> Iterator[None]:
    """Turn whatever the reading of a file raises into a `SettingError` that names it."""
    try:
        yield
    except SettingError:
        raise
    except FileNotFoundError as error:
        raise SettingError(f"{key}={one_line(path)}: no such file") from error
    except Exception as error:  # whatever the reading of arbitrary bytes can raise
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise SettingError(
                f"{one_line(path)}: holds pickled objects, which are never loaded; save numbers"
            ) from error
        raise SettingError(f"{one_line(path)}: cannot be read ({first_line(error)})") from error


class Names:
    """The arrays of a file by their names, of which `key` chooses one."""

    def __init__(self, path: Path, key: str | None, setting: str) -> None:
        self.path, self.key, self.setting = path, key, setting

    def refuse(self) -> None:
        """Refuse a key for a file that holds one array without a name."""
        if self.key is not None:
            raise SettingError(
                f"{self.setting}={one_line(self.key)}: {one_line(self.path)} holds one array"
                " without a name"
            )

    def one_of(self, names: list[str]) -> str:
        """Return the name of the array that is wanted."""
        known = ", ".join(one_line(name) for name in names[:20])
        if self.key is None:
            if len(names) != 1:
                raise SettingError(
                    f"{one_line(self.path)}: holds {len(names)} arrays; set {self.setting} to one"
                    f" of {known}"
                )
            return names[0]
        if self.key not in names:
            raise SettingError(f"{self.setting}={one_line(self.key)}: must be one of {known}")
        return self.key


class _Listed(Exception):  # noqa: N818 (no error: it ends the reading once the names are known)
    pass


class _Listing(Names):
    """Ends the reading of a file with the names of its arrays."""

    def refuse(self) -> None:
        raise _Listed

    def one_of(self, names: list[str]) -> str:
        raise _Listed(*names)


def names_in(path: Path) -> list[str]:
    """Return the names of the arrays in a file; none of an array without a name.

    None, too, of a file that cannot be read: whoever reads it says why.
    """
    try:
        READERS[path.suffix.lower()](path, _Listing(path, None, ""))
    except _Listed as found:
        return list(map(str, found.args))
    except Exception:  # whatever the reading of arbitrary bytes can raise
        return []
    return []


def _npy(path: Path, names: Names) -> np.ndarray:
    names.refuse()
    with path.open("rb") as file:
        shape, fortran, dtype = npy_header(file)
        start, size = file.tell(), prod(shape) * dtype.itemsize
    if start + size != path.stat().st_size:
        raise SettingError(
            f"{one_line(path)}: cut off or damaged: its header says {size:,} bytes of {shape}, and"
            f" there are {path.stat().st_size - start:,}"
        )
    if not size:
        return np.empty(shape, dtype)
    if size > IN_MEMORY and not fortran and dtype.isnative:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    check_fits(f"{one_line(path)}: a copy in memory", size)
    return np.ascontiguousarray(np.load(path, allow_pickle=False))


def _npz(path: Path, names: Names) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        member = members[names.one_of(list(members))]
        check_fits(f"{one_line(path)}: its array", member.file_size)
        with archive.open(member) as file:
            shape, _, dtype = npy_header(file)
            if prod(shape) * dtype.itemsize > member.file_size:
                raise ValueError(f"its array {shape} is cut off")
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _safetensors(path: Path, names: Names) -> np.ndarray:
    wanted(path, "safetensors", "export")
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        name = names.one_of(list(file.keys()))
        check_fits(f"{one_line(path)}: its array", path.stat().st_size)
        return _of_torch(file.get_tensor(name))


def _pt(path: Path, names: Names) -> np.ndarray:
    import torch

    from aecli.archive import check_bounds

    try:
        check_bounds(path)
    except SettingError as error:
        raise ValueError(str(error)) from error
    check_fits(f"{one_line(path)}: its array", path.stat().st_size)
    contents = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(contents, dict):
        named = {str(name): value for name, value in contents.items()}
        contents = named[names.one_of(list(named))]
    else:
        names.refuse()
    if not isinstance(contents, torch.Tensor):
        raise SettingError(f"{one_line(path)}: holds no tensor")
    check_fits(f"{one_line(path)}: its array", contents.nbytes)  # one number may stand for many
    return _of_torch(contents)


def _of_torch(tensor: Any) -> np.ndarray:
    import torch

    if tensor.dtype == torch.bfloat16:  # which NumPy does not know
        tensor = tensor.float()
    return tensor.detach().numpy()


def _h5(path: Path, names: Names) -> np.ndarray:
    wanted(path, "h5py", "hdf5")
    import h5py

    with h5py.File(path, "r") as file:
        found: list[str] = []
        file.visititems(
            lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None
        )
        dataset = file[names.one_of(found)]
        if dataset.external or dataset.is_virtual:
            raise ValueError("its array lies in other files")
        check_fits(f"{one_line(path)}: its array", dataset.nbytes)
        if h5py.check_string_dtype(dataset.dtype):
            return np.asarray(dataset.asstr()[()], dtype=str)
        return dataset[()]


READERS: dict[str, Callable[[Path, Names], np.ndarray]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".pt": _pt,
    ".h5": _h5,
}
"""By the ending of a file."""


def wanted(path: Path, module: str, extra: str) -> None:
    """Raise `SettingError` with the line that installs a module, if it lacks."""
    try:
        import_module(module)
    except ImportError as error:
        raise SettingError(
            f"{one_line(path)}: needs {module}, not installed; {installs(extra)}"
        ) from error
