"""The several values of a setting in a sweep: `a,b`, `range(…)`, `glob(…)`, `interval(…)`.

Imports Hydra only where it checks; no torch.
"""

from collections.abc import Hashable, Iterable
from decimal import Decimal, InvalidOperation
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any

from aecli.errors import SettingError, shortened
from aecli.options import groups, options
from aecli.text import one_line

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

ONE_VALUE = ("launcher", "sweeper", "resume", "output_dir", "objective", "plugins", "hydra")
"""Settings of a whole sweep, and all below them: its runs cannot differ in them."""
MOST_RUNS = 100_000
"""Runs of a sweep: more is a slip of the finger."""


def check_values(override: "Override", key: str, *, searches: bool) -> int:
    """Return how many values of a setting a sweep runs through, `MOST_RUNS` + 1 if more.

    `searches` tells whether the sweep is one of sweeper=optuna, which chooses within a range.

    Raises:
        SettingError: if there is no value, one stands there twice, or the runs of a sweep cannot
            differ in this setting.
    """
    from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep

    typed, values = shortened(override.input_line), override.value()
    if key.replace("/", ".").partition(".")[0] in ONE_VALUE:
        raise SettingError(f"{typed}: must be one value for the whole sweep")
    if isinstance(values, Glob):
        return len(matching(values, key, typed))
    tags = sorted(map(str, values.tags)) if isinstance(values, ChoiceSweep | RangeSweep) else []
    if isinstance(values, IntervalSweep):
        tags = sorted({*map(str, values.tags)} - {"log"})
        _check_interval(values, typed, searches=searches)
    elif isinstance(values, RangeSweep) and searches and tags == ["log"]:
        tags = []
    if tags:
        raise SettingError(
            f"{typed}: has no use for tag({tags[0]}, …); there is tag(log, interval(…)) with"
            " sweeper=optuna"
        )
    if isinstance(values, ChoiceSweep):
        return _check_choices(list(override.sweep_string_iterator()), typed)
    return _check_range(values, typed) if isinstance(values, RangeSweep) else 1


def matching(pattern: Any, key: str, typed: str) -> list[str]:
    """Return the options of a group that a `glob(…)` means; raise `SettingError` if it has none."""
    if key not in groups():
        raise SettingError(f"{typed}: glob(…) chooses options, as in model=glob(*)")
    known = options(key)
    if found := pattern.filter(known):
        return list(found)
    raise SettingError(f"{typed}: matches none of {', '.join(known)}")


def _check_choices(texts: list[str], typed: str) -> int:
    if not texts:
        raise SettingError(f"{typed}: is empty, so that there is nothing to run")
    if twice := _first_repeated(texts):
        raise SettingError(f"{typed}: {twice} stands there twice; each value is one run")
    return len(texts)


def _first_repeated(texts: Iterable[str]) -> str | None:
    """Return the first text that means the same as one before it, as 1.0 and '1' do."""
    seen: set[Hashable] = set()
    for text in texts:
        meaning: Hashable = text.strip("'\"")
        try:
            number = Decimal(str(meaning))
            meaning = meaning if number.is_nan() else number
        except InvalidOperation:
            pass
        if meaning in seen:
            return one_line(text)
        seen.add(meaning)
    return None


def _check_range(values: Any, typed: str) -> int:
    ends = [float(end) for end in (values.start, values.stop, values.step)]
    if not isfinite(ends[0]) or not isfinite(ends[2]) or ends[1] != ends[1]:
        raise SettingError(f"{typed}: a range is typed as range(FROM,TO,STEP), of finite numbers")
    if not values.step:
        raise SettingError(f"{typed}: the step of a range must not be 0")
    if count := sum(1 for _ in islice(values.range(), MOST_RUNS + 1)):
        return count
    raise SettingError(f"{typed}: is an empty range, so that there is nothing to run")


def _check_interval(values: Any, typed: str, *, searches: bool) -> None:
    if not searches:
        raise SettingError(
            f"{typed}: an interval is searched by sweeper=optuna; a sweep over single values is"
            " typed as 0.1,0.2 or range(0,1,0.1)"
        )
    low, high = float(values.start), float(values.end)
    if not (isfinite(low) and isfinite(high) and low < high):
        raise SettingError(f"{typed}: must go from one finite number up to another")
    if "log" in values.tags and low <= 0:
        raise SettingError(f"{typed}: with tag(log, …) an interval must start above 0")
