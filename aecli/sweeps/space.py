"""The settings that a search chooses, from Hydra's words for several values to Optuna's."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    OverrideType,
    RangeSweep,
)
from omegaconf import DictConfig

from aecli.errors import SettingError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def space_of(
    arguments: Sequence[str], settings: DictConfig
) -> tuple[list[str], dict[str, "BaseDistribution"]]:
    """Return what was typed with one value, and the distribution of each setting to search.

    Without a setting that has several values, those of `settings.space` are searched.

    Raises `SettingError` for what Optuna cannot search.
    """
    fixed, typed = _fixed_and_swept(arguments)
    swept = typed or _default_space(settings, without=[line.split("=")[0] for line in fixed])
    return fixed, {_key(override): distribution(override) for override in swept}


def _fixed_and_swept(arguments: Sequence[str]) -> tuple[list[str], list[Override]]:
    """Return what was typed with one value, and what with several or a range."""
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    swept = [override for override in parsed if override.is_sweep_override()]
    fixed = [override.input_line for override in parsed if not override.is_sweep_override()]
    return [line for line in fixed if line is not None], swept


def _key(override: Override) -> str:
    key = str(override.key_or_group)
    if key.startswith("sweeper"):
        raise SettingError(f"{override.input_line}: is no setting to search")
    return {OverrideType.ADD: "+", OverrideType.FORCE_ADD: "++"}.get(override.type, "") + key


def _default_space(settings: DictConfig, without: Sequence[str]) -> list[Override]:
    space: Mapping[str, Any] = settings.space or {}
    lines = [f"{key}={values}" for key, values in space.items() if key not in without]
    swept = _fixed_and_swept(lines)[1]
    if not swept or len(swept) < len(lines):
        raise SettingError(
            "sweeper.space: must give each setting that is not typed several values, such as"
            " {optimizer.lr: 'tag(log, interval(1e-4, 1e-2))'}"
        )
    return swept


def distribution(override: Override) -> "BaseDistribution":
    """Return Optuna's form of `KEY=a,b`, `range(…)`, `interval(…)` or `tag(log, …)` of these."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    values = override.value()
    log = isinstance(values, IntervalSweep | RangeSweep) and "log" in values.tags
    try:
        if isinstance(values, ChoiceSweep):
            texts = override.sweep_string_iterator()
            return CategoricalDistribution(
                [
                    value if isinstance(value, int | float) else text  # numbers, not their texts
                    for value, text in zip(values.list, texts, strict=True)
                ]
            )
        if isinstance(values, RangeSweep):
            # Hydra's ranges leave their end out, Optuna's do not.
            steps = [float(text) for text in override.sweep_string_iterator()]
            if not steps:
                raise ValueError("it is empty")
            if all(number.is_integer() for number in steps):
                step = int(values.step)
                return IntDistribution(int(steps[0]), int(steps[-1]), log=log, step=step)
            return FloatDistribution(steps[0], steps[-1], log=log, step=float(values.step))
        if isinstance(values, IntervalSweep):
            low, high = values.start, values.end
            assert low is not None
            assert high is not None
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low), float(high), log=log)
    except ValueError as error:
        raise SettingError(f"{override.input_line}: no range to search: {error}") from error
    raise SettingError(
        f"{override.input_line}: must be a,b,c or range(…) or interval(…) or tag(log, …) of these"
    )
