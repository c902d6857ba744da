"""A user's mistake, and the checks that find one."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from aecli.text import one_line

LARGEST = 2**31 - 1
"""No count, size or number in here is larger: beyond it is a slip of the finger."""
LONGEST = 80
"""Characters of a value that a message shows."""

NO_TEXT = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?|true|false|null|\[.{,70}\]|\{.{,70}\}", re.I)
"""Texts that look like another kind of value."""


class SettingError(ValueError):
    """A setting that cannot work: its message names the key, the value and what is allowed.

    The command line prints it as one plain line; anything else that is raised is a bug.
    """

    allowed = ""
    """What is allowed, such as "a number above 0", if the message is made of that."""


T = TypeVar("T")


def refused(key: str, value: Any, allowed: str) -> SettingError:
    """Return the error of a value that is not `allowed`, such as "a number above 0"."""
    error = SettingError(f"{key}={shortened(value)}: must be {allowed}")
    error.allowed = allowed
    return error


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
        raise refused(key, value, f"{allowed}{_and_no_larger(value)}")
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
        raise refused(key, value, f"a whole number {span}{why}")
    return value


def check_choice(key: str, value: Any, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`; raise `SettingError` listing them otherwise."""
    if not isinstance(value, str) or value not in choices:
        raise refused(key, value, f"one of {', '.join(choices)}")
    return value


def check_seed(key: str, value: Any) -> int:
    """Return `value` if every random number generator takes it as a seed."""
    return check_int(key, value, 0, 2**32 - 1)


def check_bool(key: str, value: Any) -> bool:
    """Return `value` if it is true or false."""
    if not isinstance(value, bool):
        raise refused(key, value, "true or false")
    return value


def check_list(
    key: str,
    value: Any,
    each: Callable[[str, Any], T],
    example: str,
    *,
    may_be_empty: bool = False,
    length: int | None = None,
    distinct: bool = False,
) -> list[T]:
    """Return `value` if it is a list, of `length` values if that is given, as `each` returns them.

    Args:
        key: of the setting.
        value: the list.
        each: checks a value of it: called with `key` and the value.
        example: of such a list.
        may_be_empty: whether a list without values is one.
        length: of the list; None for any.
        distinct: whether a value may stand there once only.

    Raises `SettingError` naming `key`, the whole list and what is allowed.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        how_many = "" if length is None else f" of {length} values"
        raise refused(key, value, f"a list{how_many}, such as {example}")
    if length is not None and len(value) != length:
        raise refused(key, value, f"a list of {length} values, such as {example}")
    if not value and not may_be_empty:
        raise refused(key, value, f"a list of at least one value, such as {example}")
    checked: list[T] = []
    for place, item in enumerate(value):
        try:
            checked.append(each(key, item))
        except SettingError as error:
            if not error.allowed:
                raise
            allowed = f"a list, such as {example}; each value must be {error.allowed}"
            raise refused(key, value, allowed) from None
        if distinct and item in list(value)[:place]:
            raise SettingError(f"{key}={shortened(value)}: {item} stands there twice")
    return checked


def check_shape(key: str, value: Any) -> tuple[int, ...]:
    """Return `value` if it is a shape: (features,), or (channels, rows, columns) of an image."""
    shape = check_list(key, value, partial(check_int, low=1), "[1,28,28] or [13]")
    if len(shape) not in (1, 3):
        raise refused(key, value, "a list of 1 or 3 values, such as [13] or [1,28,28]")
    return tuple(shape)


def shortened(value: Any) -> str:
    """Return a value as a message shows it: on one line, and not all of a long one.

    A text that would be taken for something else, such as '3', stands in quotes.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and NO_TEXT.fullmatch(value):
        return f"'{value}'"
    if isinstance(value, list | tuple):
        value = f"[{','.join(map(shortened, value[:LONGEST]))}]"
    elif isinstance(value, Mapping):
        value = f"{{{','.join(f'{k}:{shortened(v)}' for k, v in islice(value.items(), LONGEST))}}}"
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
