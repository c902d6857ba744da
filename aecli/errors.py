"""A user's mistake, and the checks that find one."""

import math
from collections.abc import Collection, Sequence
from typing import Any

from aecli.text import one_line

LARGEST = 2**31 - 1
"""No count, size or number in here is larger: beyond it is a slip of the finger."""
LONGEST = 80
"""Characters of a value that a message shows."""


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
    fits = is_number and low <= value <= high and abs(value) <= LARGEST
    if not fits or (open_low and value == low) or (open_high and value == high):
        allowed = f"a number {_range(low, high, open_low, open_high)}".rstrip()
        raise SettingError(f"{key}={shortened(value)}: must be {allowed}{_and_no_larger(value)}")
    return float(value)


def check_int(key: str, value: Any, low: int, high: int | None = None, why: str = "") -> int:
    """Return `value` if it is a whole number of at least `low` and at most `high`.

    Raises `SettingError` naming `key`, the value, the range and `why` it ends there.
    """
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if not is_int or not low <= value <= (LARGEST if high is None else high):
        span = f"of at least {low}" if high is None else f"from {low} to {high}"
        why = why and f" ({why})"
        if high is None:
            why += _and_no_larger(value)
        raise SettingError(f"{key}={shortened(value)}: must be a whole number {span}{why}")
    return value


def check_choice(key: str, value: Any, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`; raise `SettingError` listing them otherwise."""
    if not isinstance(value, str) or value not in choices:
        raise SettingError(f"{key}={shortened(value)}: must be one of {', '.join(choices)}")
    return value


def check_seed(key: str, value: Any) -> int:
    """Return `value` if every random number generator takes it as a seed."""
    return check_int(key, value, 0, 2**32 - 1)


def check_bool(key: str, value: Any) -> bool:
    """Return `value` if it is true or false."""
    if not isinstance(value, bool):
        raise SettingError(f"{key}={shortened(value)}: must be true or false")
    return value


def check_list(
    key: str, value: Any, example: str, *, may_be_empty: bool = False, length: int | None = None
) -> list[Any]:
    """Return `value` if it is a list, of `length` values if that is given.

    Raises `SettingError` naming `key`, the value and an `example`.
    """
    is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not is_list or not (value or may_be_empty) or length not in (None, len(value)):
        how_many = "" if length is None else f" of {length} values"
        raise SettingError(f"{key}={shortened(value)}: must be a list{how_many}, such as {example}")
    return list(value)


def check_shape(key: str, value: Any) -> tuple[int, ...]:
    """Return `value` if it is the shape (channels, rows, columns) of an image."""
    sizes = check_list(key, value, "[1,28,28]", length=3)
    return tuple(check_int(key, size, 1) for size in sizes)


def shortened(value: Any) -> str:
    """Return a value as a message shows it: on one line, and not all of a long one."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return one_line(" ".join(str(value).split()), LONGEST)


def _and_no_larger(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f" and at most {LARGEST}" if is_number and value > LARGEST else ""


def _range(low: float, high: float, open_low: bool, open_high: bool) -> str:
    if math.isfinite(low) and math.isfinite(high):
        ends = ("]" if open_low else "[") + f"{low:g}, {high:g}" + ("[" if open_high else "]")
        return f"in {ends}"
    if math.isfinite(low):
        return f"{'above' if open_low else 'of at least'} {low:g}"
    return ""
