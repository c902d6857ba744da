"""The one writer of the project: a file or a folder appears whole or not at all. No torch here.

Whatever is written goes to a hidden temporary name in the same folder, `.NAME.XXXXXXXX.part`, is
synchronized with the disk, and is renamed: a process that is killed, a full disk or a power cut
leaves the old version or the new one. A folder that takes the place of another is the exception:
killed between two renamings, its writer leaves both under hidden names, and the next writer of that
name puts the old one back. The writer holds a lock on its temporary file; a temporary file that
nobody holds was left by a killed process, and the next writer of that name removes it. Nothing is
written through a symbolic link: not to a linked file, nor into a linked folder.
"""

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from errno import EOPNOTSUPP, EPERM
from itertools import count, islice
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from aecli.errors import SettingError

PART = ".part"
"""How temporary names end."""
OLDER = ".older"
"""How the name of a folder ends that another is about to take the place of."""
SYNCHRONIZED_AT_ONCE = 8
"""Files of a folder that wait for the disk together."""


class WriteError(SettingError):
    """A file or folder that the file system does not let us write: its message says why."""


def write(path: Path, content: bytes | str) -> Path:
    """Write the file `path`, replacing an older version of it, and return `path`.

    Raises `WriteError` if it cannot be written; the older version stays as it was.
    """
    write_together({path: content})
    return path


def write_together(contents: Mapping[Path, bytes | str]) -> None:
    """Write files that belong together, replacing older versions of them.

    All of them are on the disk before the first gets its name; they get their names in the order of
    `contents`. Raises `WriteError` if one cannot be written; all older versions stay as they were.
    """
    with ExitStack() as stack:
        for path in contents:
            with _one_line(path):
                refuse_links(path, path.parent)
                path.parent.mkdir(parents=True, exist_ok=True)
        for temporary, path in zip(_staged(contents, stack), contents, strict=True):
            with _one_line(path):
                temporary.replace(path)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new version of the file `path`, which replaces the old one when the block ends.

    Raises `WriteError` if it cannot be written; the older version stays as it was.
    """
    with _one_line(path):
        refuse_links(path, path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as (temporary, file):
            yield file
            _synchronize(file)
            temporary.replace(path)


@contextmanager
def new_files(*paths: Path, overwrite: bool = False) -> Iterator[list[BinaryIO]]:
    """Open files that belong together, which get their names `paths` when the block ends.

    All of them or none. Raises `SettingError` if something has one of the names already, unless
    `overwrite` lets the new files replace older ones; `WriteError` if one cannot be written.
    """
    for path in paths:
        refuse_existing_file(path, overwrite)
    with _one_line(paths[0]), ExitStack() as stack:
        opened = [stack.enter_context(_temporary(path)) for path in paths]
        yield [file for _, file in opened]
        for _, file in opened:
            _synchronize(file)
        temporaries = [temporary for temporary, _ in opened]
        if overwrite:
            for temporary, path in zip(temporaries, paths, strict=True):
                temporary.replace(path)
        elif not _all_linked(temporaries, list(paths)):
            for path in paths:
                refuse_existing_file(path, overwrite)


def refuse_existing_file(path: Path, overwrite: bool) -> None:
    """Raise `SettingError` unless a file can be made at `path`: or replaced, with `overwrite`."""
    refuse_links(path)
    if path.is_dir() or (os.path.lexists(path) and not path.is_file()):
        raise SettingError(f"{path}: is no regular file; name a new one")
    if os.path.lexists(path) and not overwrite:
        raise SettingError(f"{path}: exists already; name another, or add overwrite=true")
    if not path.absolute().parent.is_dir():
        raise SettingError(f"{path}: there is no folder {path.parent}")


def write_new(folder: Path, name: str, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files that belong together under a name that is free, and return their paths.

    `contents` maps suffixes, such as ".npz", to bytes. The name is NAME, or NAME-2, NAME-3, … if a
    file of that name exists, whoever made it. The files appear in the order of `contents`: whoever
    sees the last one sees all. Raises `WriteError` if one cannot be written; none is left behind.
    """
    with _one_line(folder / name), ExitStack() as stack:
        refuse_links(folder)
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {folder / f"{name}{suffix}": content for suffix, content in contents.items()}
        temporaries = _staged(wanted, stack)
        names = numbered(name)
        while True:
            free = next(names)
            paths = [folder / f"{free}{suffix}" for suffix in contents]
            if not any(map(os.path.lexists, paths)) and _all_linked(temporaries, paths):
                return paths


@contextmanager
def new_folder(path: Path, replaces: Collection[str] = ()) -> Iterator[Path]:
    """Yield an empty folder to write into, which becomes `path` when the block ends.

    If the block raises, nothing is left of it. Raises `SettingError` if something is at `path`
    already: a file, a link, or a folder that holds other files than those that `replaces` names.
    """
    with _one_line(path):
        if path.parent.is_dir():
            _remove_leftovers(path)
        refuse_existing(path, replaces)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(path)
        temporary.mkdir()
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            _lock(descriptor)
            yield temporary
            _synchronize_all(temporary)
            _put(temporary, path, replaces)
        finally:
            os.close(descriptor)
            shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path, replaces: Collection[str] = ()) -> None:
    """Raise `SettingError` unless a folder can be made at `path`, or an empty one is there.

    Or one that has no other files than those that `replaces` names.
    """
    if path.name in ("", ".."):
        raise SettingError(f"{path}: must be the path of a new or an empty folder")
    refuse_links(path)
    if os.path.lexists(path) and not has_only(path, replaces):
        raise SettingError(f"{path}: exists already; name a new or an empty folder")
    above = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise SettingError(f"{path}: cannot be made: {above} is no folder")


def has_only(path: Path, names: Collection[str]) -> bool:
    """Return whether a folder, no link, is at `path` that has nothing but files of these names."""
    if path.is_symlink() or not path.is_dir():
        return False
    with os.scandir(path) as entries:
        return all(e.name in names and e.is_file(follow_symlinks=False) for e in entries)


def numbered(name: str) -> Iterator[str]:
    """Return NAME, NAME-2, NAME-3, … without end."""
    yield name
    for number in count(2):
        yield f"{name}-{number}"


def refuse_links(*paths: Path) -> None:
    """Raise `SettingError` if one of `paths` is a symbolic link: its target is somebody else's."""
    for path in paths:
        if path.is_symlink():
            raise SettingError(
                f"{path}: is a symbolic link, and nothing is written through one; its target is"
                f" {os.path.realpath(path)}"
            )


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for the same folder, then run the block."""
    with _one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _lock(descriptor)
            yield
        finally:
            os.close(descriptor)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn an error of the file system into a `WriteError` that names `path`."""
    try:
        yield
    except OSError as error:
        folder = next(parent for parent in path.absolute().parents if parent.is_dir())
        free = shutil.disk_usage(folder).free
        raise WriteError(
            f"{path}: cannot be written, with {free / 1e6:.1f} MB free on its disk"
            f" ({error.strerror or error}); what was there before is unchanged"
        ) from error


def _staged(contents: Mapping[Path, bytes | str], stack: ExitStack) -> list[Path]:
    """Write files under temporary names and return these; `stack` removes them at its end."""
    temporaries = []
    for path, content in contents.items():
        with _one_line(path):
            temporary, file = stack.enter_context(_temporary(path))
            file.write(content.encode() if isinstance(content, str) else content)
            _synchronize(file)
            temporaries.append(temporary)
    return temporaries


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a temporary file beside `path`, held by a lock and removed at the end."""
    _remove_leftovers(path)
    while True:
        temporary = _temporary_name(path)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _lock(descriptor)
                if os.fstat(descriptor).st_nlink == 0:
                    continue  # another writer took it for a leftover before it was locked
                yield temporary, file
                return
        finally:
            temporary.unlink(missing_ok=True)  # missing: it has been renamed


def _temporary_name(path: Path, ending: str = PART) -> Path:
    return path.with_name(f".{path.name}.{token_hex(4)}{ending}")


def _remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` have left; put back the older version that they took."""
    for entry in list(os.scandir(path.parent)):
        if not (entry.name.startswith(f".{path.name}.") and entry.name.endswith((PART, OLDER))):
            continue
        with suppress(OSError):  # another writer was quicker
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if entry.name.endswith(OLDER) and not os.path.lexists(path):
                    Path(entry.path).rename(path)
                elif entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    Path(entry.path).unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Show that this process is alive, as far as the file system knows locks."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _synchronize(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _synchronize_all(folder: Path) -> None:
    """Synchronize all files below a folder: several at once, of which a disk makes one journey."""
    paths = filter(Path.is_file, folder.rglob("*"))
    with ThreadPoolExecutor(SYNCHRONIZED_AT_ONCE) as threads:
        while some := list(islice(paths, 100 * SYNCHRONIZED_AT_ONCE)):
            list(threads.map(_synchronize_path, some))


def _synchronize_path(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _all_linked(temporaries: list[Path], paths: list[Path]) -> bool:
    """Give all temporary files their names; give none of them, if one name is taken."""
    made: list[Path] = []
    try:
        for temporary, path in zip(temporaries, paths, strict=True):
            _link(temporary, path)
            made.append(path)
    except BaseException as error:
        for path in made:
            path.unlink()
        if isinstance(error, FileExistsError):
            return False
        raise
    return True


def _link(temporary: Path, path: Path) -> None:
    """Give a file a second name, one that is free; raise `FileExistsError` if it is not."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (EPERM, EOPNOTSUPP):
            raise
        # A file system without hard links: the name is claimed, then replaced.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary.replace(path)


def _put(temporary: Path, path: Path, replaces: Collection[str]) -> None:
    """Give a folder its name; an older version of it gets a temporary one, and is removed."""
    if not (replaces and path.is_dir() and any(path.iterdir())):
        temporary.rename(path)  # fails if somebody has put something there meanwhile
        return
    refuse_existing(path, replaces)
    older = _temporary_name(path, OLDER)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        _lock(descriptor)
        path.rename(older)
        try:
            temporary.rename(path)
        except OSError:
            older.rename(path)
            raise
        shutil.rmtree(older, ignore_errors=True)
    finally:
        os.close(descriptor)
