"""Where the columns of a table stand in the numbers of a row, for the parts that tell them apart.

They are found from `features`, what the data card says of the D numbers in order: `["number", n]`
for n columns of numbers, `["category", K]` for one of K categories, and `["mask", C]`, at the end,
for C entries that say which of the C columns are there.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from aecli.errors import SettingError, check_choice, check_int, check_list

KINDS = ("number", "category", "mask")
MOST = 10_000_000
"""Numbers of a row: many more than any table has that is read into memory."""


class Columns(NamedTuple):
    """The C columns of a table in the D numbers of a row."""

    of: list[int]
    """`(D,)`: the column that each number belongs to, those of a mask too."""
    numbers: list[int]
    """Which of the D are columns of numbers."""
    categories: list[range]
    """Which of the D belong to each category."""
    mask: range | None
    """Which of the D are the mask."""


def columns_of(features: Sequence[Any]) -> Columns:
    """Return where the columns stand; raise `SettingError` for what no data card says."""
    runs = check_list("dataset.features", features, _run, "[[number,2],[category,3]]")
    if sum(size for _, size in runs) > MOST:
        raise SettingError(f"dataset.features: has more than {MOST:,} numbers")
    columns = Columns([], [], [], None)
    count = 0
    for kind, size in runs:
        at = range(len(columns.of), len(columns.of) + size)
        if columns.mask is not None or (kind == "mask" and size != count):
            raise SettingError("dataset.features: a mask must be at the end, of all columns")
        if kind == "number":
            columns.numbers.extend(at)
            columns.of.extend(range(count, count + size))
            count += size
        elif kind == "category":
            columns.categories.append(at)
            columns.of.extend([count] * size)
            count += 1
        else:
            columns.of.extend(range(count))
            columns = columns._replace(mask=at)
    return columns


def _run(key: str, value: Any) -> tuple[str, int]:
    kind, size = check_list(key, value, lambda _, part: part, "[number,2]", length=2)
    return check_choice(key, kind, KINDS), check_int(key, size, 1, MOST)
