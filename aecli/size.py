"""How much memory something will take: found out, and refused, before it is taken."""

from pathlib import Path

from psutil import virtual_memory

from aecli.errors import SettingError

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory a container may use."""


def memory() -> int:
    """Return the bytes of memory of this machine, or of the container that this is."""
    texts = [Path(path).read_text().strip() for path in LIMITS if Path(path).is_file()]
    return min([virtual_memory().total, *(int(text) for text in texts if text.isdigit())])


def check_fits(settings: str, size: float) -> None:
    """Raise `SettingError` naming `settings` if `size` bytes are more than there are."""
    if size > memory():
        raise SettingError(
            f"{settings} would take {_readable(size)} of memory, and there are"
            f" {_readable(memory())}"
        )


def _readable(size: float) -> str:
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 1000:
            return f"{size:.3g} {unit}"
    return f"{size / 1000:.2g} PB"
