"""Where a command writes what `out=` names: a file, or a folder; checked before the work."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from aecli.errors import SettingError, check_bool
from aecli.files import has_only, refuse_existing, refuse_existing_file
from aecli.patterns import expanded, matching
from aecli.rows import ENDINGS, check_ending
from aecli.runs.paths import files_of


def file_for(config: DictConfig, example: str, endings: tuple[str, ...] = ENDINGS) -> Path:
    """Return the file that `out=` names, with one of the `endings`, or raise `SettingError`."""
    out = _typed(config, example)
    check_ending("out", out, endings)
    overwrite = check_bool("overwrite", config.overwrite)
    with _named():
        refuse_existing_file(out, overwrite)
    return out


def folder_for(config: DictConfig, example: str, replaces: Collection[str] = ()) -> Path:
    """Return the new folder that `out=` names, or raise `SettingError`.

    With overwrite=true a folder that has nothing but the files that `replaces` names may be there.
    """
    out = _typed(config, example)
    overwrite = check_bool("overwrite", config.overwrite)
    if overwrite and not replaces:
        raise SettingError(f"overwrite=true: goes with a file, and out={out} is a folder")
    if replaces and out.is_dir() and not out.is_symlink() and any(out.iterdir()):
        if not has_only(out, replaces):
            only = " and ".join(replaces)
            raise SettingError(f"out={out}: holds other files than {only}; name a new folder")
        if not overwrite:
            raise SettingError(f"out={out}: exists already; name another, or add overwrite=true")
    with _named():
        refuse_existing(out, replaces if overwrite else ())
    if not out.absolute().parent.is_dir():
        raise SettingError(f"out={out}: there is no folder {out.parent}")
    return out


def is_folder(config: DictConfig) -> bool:
    """Return whether `out=` names a folder: it ends in a slash, or without the ending of a file."""
    return str(config.out).endswith("/") or Path(str(config.out)).suffix == ""


@contextmanager
def _named() -> Iterator[None]:
    """Put the setting before a message that begins with its value."""
    try:
        yield
    except SettingError as error:
        raise SettingError(f"out={error}") from error


def _each(read: Sequence[Any]) -> Iterator[str]:
    """Yield the paths among what is read, and those that its patterns mean."""
    for place in read:
        if isinstance(place, str) and place:
            path = str(expanded(place))
            yield path
            yield from map(str, matching(path))
        elif isinstance(place, Sequence) and not isinstance(place, str):
            yield from _each(place)


def _typed(config: DictConfig, example: str) -> Path:
    if not (config.out or "").strip():
        raise SettingError(f"out={config.out or 'null'}: must be a path, such as out={example}")
    out = expanded(config.out)
    typed = config.get("dataset") or {}
    refuse_read(out, [*files_of(typed).values(), config.get("codes")])
    return out


def refuse_read(out: Path, read: Sequence[Any]) -> None:
    """Raise `SettingError` if `out` is, or lies in, one of the files and folders that are read.

    Each of `read` is a path, a pattern of paths, a list of such, or None.
    """
    for place in (Path(place).resolve() for place in _each(read)):
        if out.resolve() == place or (place.is_dir() and place in out.resolve().parents):
            raise SettingError(f"out={out}: is, or lies in, what is read; name another place")
