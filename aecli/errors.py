"""A user's mistake, and the checks that find one."""

import math
import sys
from collections.abc import Collection
from typing import Any

from aecli.text import one_line

LARGEST = 2**31 - 1
"""No count or size in here is larger: beyond it is a slip of the finger."""


class SettingError(ValueError):
    """A setting that cannot work: its message names the key, the value and what is allowed.

    The command line prints it as one plain line; anything else that is raised is a bug.
    """


def check_number(
    key: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return `value` as a float if it is a number between `low` and `high`.

    `open_low` and `open_high` leave the ends themselves out.
    Raises `SettingError` naming `key`, the value and the range.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = is_number and low <= value <= high and abs(value) <= sys.float_info.max
    if not fits or (open_low and value == low) or (open_high and value == high):
        allowed = f"a number {_range(low, high, open_low, open_high)}".rstrip()
        raise SettingError(f"{key}={one_line(value)}: must be {allowed}")
    return float(value)


def check_int(key: str, value: Any, low: int, high: int | None = None, why: str = "") -> int:
    """Return `value` if it is a whole number of at least `low` and at most `high`.

    Raises `SettingError` naming `key`, the value, the range and `why` it ends there.
    """
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if not is_int or not low <= value <= (LARGEST if high is None else high):
        span = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise SettingError(
            f"{key}={one_line(value)}: must be a whole number {span}{why and f' ({why})'}"
        )
    return value


def check_choice(key: str, value: Any, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`; raise `SettingError` listing them otherwise."""
    if not isinstance(value, str) or value not in choices:
        raise SettingError(f"{key}={one_line(value)}: must be one of {', '.join(choices)}")
    return value


def check_seed(key: str, value: Any) -> int:
    """Return `value` if every random number generator takes it as a seed."""
    return check_int(key, value, 0, 2**32 - 1)


def check_bool(key: str, value: Any) -> bool:
    """Return `value` if it is true or false."""
    if not isinstance(value, bool):
        raise SettingError(f"{key}={one_line(value)}: must be true or false")
    return value


def _range(low: float, high: float, open_low: bool, open_high: bool) -> str:
    if math.isfinite(low) and math.isfinite(high):
        ends = ("]" if open_low else "[") + f"{low:g}, {high:g}" + ("[" if open_high else "]")
        return f"in {ends}"
    if math.isfinite(low):
        return f"{'above' if open_low else 'of at least'} {low:g}"
    return ""
