"""The counters of Lightning's loops in a checkpoint, held against each other and the run's length.

Lightning takes them as they are: by a wrong one a training would skip batches, or end in words of
Lightning's own.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aecli.errors import SettingError

STAGES = ("ready", "started", "processed", "completed")
"""What Lightning counts of batches, steps and epochs, in this order; of some it counts only two."""

VALIDATION = "loops.epoch_loop.val_loop.batch_progress"


class Progress(NamedTuple):
    """Batches, steps or epochs that have come to each of `STAGES`."""

    path: str
    total: Mapping[str, int]
    current: Mapping[str, int]
    """Those since the last restart of the loop."""


def check_counters(
    fit_loop: Mapping[str, Any], epoch: int, global_step: int, epochs: int, where: str
) -> None:
    """Refuse counters that no training has which was saved after an epoch, or within it.

    `fit_loop` is the state of Lightning's loop, of the right build already; `epoch` and
    `global_step` stand beside it in the checkpoint; `epochs` is `trainer.max_epochs`.
    Raises `SettingError` naming `where` and the counter.
    """
    found = {progress.path: progress for progress in _all(fit_loop, "loops")}
    for path, total, current in found.values():
        for counts in (total, current):
            stages = [counts[stage] for stage in STAGES if stage in counts]
            if stages != sorted(stages, reverse=True):
                raise SettingError(f"{where}: {path}: more {STAGES[-1]} than {STAGES[0]}")
        # Lightning sets the total of validation batches back within an epoch, the current one not.
        is_set_back = path == VALIDATION and not any(total.values())
        if not is_set_back and any(total[stage] < current[stage] for stage in total):
            raise SettingError(f"{where}: {path}: its total is less than its current count")
    passed = found["loops.epoch_progress"].current
    if passed["completed"] != epoch:
        raise SettingError(
            f"{where}: epoch={epoch}: loops.epoch_progress says {passed['completed']}"
        )
    if passed["ready"] > epochs:
        raise SettingError(f"{where}: has trained {passed['ready']} epochs, of {epochs} in all")
    batches = found["loops.epoch_loop.batch_progress"].total["completed"]
    steps = (
        found["loops.epoch_loop.automatic_optimization.optim_progress.optimizer.step"],
        found["loops.epoch_loop.manual_optimization.optim_step_progress"],
    )
    if sum(step.total["completed"] for step in steps) != global_step or global_step > batches:
        raise SettingError(
            f"{where}: global_step={global_step}: loops disagrees, with {batches} batches"
        )


def _all(node: Mapping[str, Any], path: str) -> Iterator[Progress]:
    for name, value in node.items():
        if not isinstance(value, Mapping):
            continue
        below = f"{path}.{name}"
        if "total" in value and "current" in value:
            yield Progress(below, value["total"], value["current"])
        else:
            yield from _all(value, below)
