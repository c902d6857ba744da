"""The machine that a run is made on. No torch here."""

import os
import platform
from pathlib import Path

from aecli.errors import SettingError

CPUINFO = Path("/proc/cpuinfo")


def processor() -> str:
    """Return the name of this machine's processor, or its kind, such as `arm64`."""
    lines = CPUINFO.read_text(errors="replace").splitlines() if CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()


def check_processes(typed: str, count: int) -> None:
    """Raise `SettingError` naming what was typed if it asks for more processes than processors."""
    processors = os.cpu_count() or 1
    if count > processors:
        raise SettingError(f"{typed}: there are {processors} processors")
