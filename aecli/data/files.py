"""Files of a data set: found on disk in the usual places, or downloaded, checked and kept."""

import logging
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import pooch
from filelock import FileLock
from platformdirs import user_cache_dir

from aecli.errors import SettingError
from aecli.patterns import expanded

log = logging.getLogger(__name__)

TIMEOUT = 30
"""Seconds without an answer after which a mirror is given up."""
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
"""Endings of pictures, in small letters."""


def data_root(root: str | None) -> Path:
    """Return the folder for data sets: `dataset.root`, or the platform's cache directory."""
    return expanded(root) if root else Path(user_cache_dir("aecli"))


def holds(name: str, folder: str, sha256: Mapping[str, str], root: str) -> bool:
    """Return whether some place that `find` looks at holds all files, whatever is in them."""
    return any(
        all(_file(place, file) for file in sha256) for place in _places(name, folder, Path(root))
    )


def find(
    name: str, folder: str, sha256: Mapping[str, str], root: str | None
) -> dict[str, Path] | None:
    """Return where each file of `sha256` lies, gzipped or unpacked, or None if no place holds all.

    Looked at, in this order: `root/name/`, `root/folder/raw/` (torchvision's) and `root` itself.

    Raises `SettingError` if a place holds some of the files only, or pictures instead of them.
    """
    base = data_root(root)
    if root and not base.is_dir():
        raise SettingError(f"dataset.root={root}: no such folder")
    files = list(sha256)
    for place in _places(name, folder, base):
        found = {file: path for file in files if (path := _file(place, file)) is not None}
        if len(found) == len(files):
            _check_published(name, sha256, found)
            return found
        # A half-filled cache is an interrupted download, to be completed by `fetch`.
        if found and place != base / name:
            missing = ", ".join(file for file in files if file not in found)
            raise SettingError(f"dataset.root={base}: {place} lacks {missing}")
    if root and (picture := _picture(base, base / name)):
        raise SettingError(
            f"dataset.root={base}: holds pictures ({picture.name}) and not the IDX files of"
            f" dataset={name}: {', '.join(files)} (or unpacked, without .gz)"
        )
    return None


def fetch(
    name: str, sha256: Mapping[str, str], mirrors: Sequence[str], root: str | None
) -> dict[str, Path]:
    """Download the files of a data set that `root/name/` lacks; return where all of them lie.

    Each file is tried on each mirror in turn, under a lock, so that two runs can start at once;
    it is kept only if its SHA-256 is right.

    Raises `SettingError` saying what was tried and where to put the files by hand.
    """
    place = data_root(root) / name
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".lock"):
            return {
                file: _file(place, file) or _download(name, file, known, mirrors, place)
                for file, known in sha256.items()
            }
    except OSError as error:
        raise SettingError(
            f"dataset.root={data_root(root)}: cannot be written ({error.strerror or error})"
        ) from error


def _places(name: str, folder: str, base: Path) -> list[Path]:
    return [base / name, base / folder / "raw", base]


def _file(place: Path, name: str) -> Path | None:
    for path in (place / name, place / name.removesuffix(".gz")):
        if path.is_file():
            return path
    return None


def _download(name: str, file: str, sha256: str, mirrors: Sequence[str], place: Path) -> Path:
    pooch.get_logger().setLevel(logging.WARNING)  # it would announce each file a second time
    tried = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{file}"
        log.info("downloading %s", url)
        try:
            downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
            path = pooch.retrieve(url, f"sha256:{sha256}", file, place, downloader=downloader)
            Path(path).chmod(0o644)  # the cache may be shared; pooch leaves it to its owner alone
            return Path(path)
        except Exception as error:  # whatever a network and its libraries can raise
            if _is_of_writing(error):
                raise
            tried.append(f"  {url}: {_reason(error)}")
    raise SettingError(
        f"dataset={name}: {file} could not be downloaded. Tried:\n"
        + "\n".join(tried)
        + f"\nPut the files into {place}, or point dataset.root at the folder that holds them;"
        " dataset=digits needs none."
    )


def _is_of_writing(error: Exception) -> bool:
    """Return whether the system refused to write; what a network raises has no number, or a kind.

    Those of `requests` are `OSError`s, too.
    """
    is_broken = isinstance(error, ConnectionError | TimeoutError)
    return isinstance(error, OSError) and error.errno is not None and not is_broken


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError) and "does not match the known hash" in str(error):
        return "the file's SHA-256 is wrong (truncated or not the published file)"
    status = getattr(getattr(error, "response", None), "status_code", None)
    return type(error).__name__ if status is None else f"{type(error).__name__}, status {status}"


def _picture(base: Path, own: Path) -> Path | None:
    """Return a picture in `base` itself, or in the data set's own folder or its subfolders."""
    paths = chain(base.glob("*"), own.glob("*/*"), own.glob("*"))
    return next((path for path in paths if path.suffix.lower() in PICTURES), None)


def _check_published(name: str, sha256: Mapping[str, str], found: Mapping[str, Path]) -> None:
    """Refuse, or warn of, files that are not the published ones.

    The data sets of the MNIST family share their file names. In a folder of the data set's name
    other files are the user's choice; elsewhere they are more likely those of another data set.
    """
    for file, path in found.items():
        if path.suffix == ".gz" and pooch.file_hash(str(path)) != sha256[file]:
            differs = f"{path} is not the file published as {name} (its SHA-256 differs)"
            if path.parent.name not in (name, "raw"):
                raise SettingError(f"{differs}; to use it all the same, put it in a folder {name}/")
            log.warning("%s; using it all the same", differs)
