"""`sweeper=optuna`: each run's settings are chosen by what came out of the runs before.

Hydra's own plugin for Optuna brings a version from 2021, whose storage on a database fails with
today's SQLAlchemy, cannot end bad runs early and numbers the runs of a resumed study from 0 again.
Imported by the command line: neither torch nor Optuna before a sweep starts.
"""

import logging
import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    OverrideType,
    RangeSweep,
)
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from aecli.errors import SettingError, check_bool, check_int, check_seed
from aecli.runs.paths import SWEEP, shown
from aecli.runs.records import more_is_better

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

STUDY = "aecli"
STORAGE = "study.log"
"""Optuna's journal in the sweep's directory."""
PRUNED = "pruned"
"""What a trial is marked with that was ended early."""
SWEEP_OF, OBJECTIVE = "sweep", "objective"
"""What a trial, and a study, is marked with."""


class OptunaSweeper(Sweeper):
    """Asks a study for settings, runs a job with them, tells the study what came out."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives to a sweeper."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run `sweeper.trials` jobs, or what is left of them if the sweep is resumed."""
        assert self.config is not None
        settings, sweep = self.config.sweeper, Path(self.config.hydra.sweep.dir)
        trials = check_int("sweeper.trials", settings.trials, 1)
        check_int("trainer.max_epochs", self.config.trainer.max_epochs, 0)
        fixed, typed = _fixed_and_swept(arguments)
        swept = typed or _default_space(settings, without=[line.split("=")[0] for line in fixed])
        space = {_key(override): _distribution(override) for override in swept}
        OmegaConf.save(self.config, sweep / SWEEP)  # what resume= compares the line with
        study = open_study(self.config, sweep)
        at_once = self._at_once(settings)
        ours = [t for t in study.trials if t.user_attrs.get(SWEEP_OF) == _name(settings, sweep)]
        begun = [t.number for t in ours if not t.state.is_finished()]
        left = trials - len(ours)
        while begun or left > 0:
            numbers, begun = begun[:at_once], begun[at_once:]
            while left > 0 and not begun and len(numbers) < at_once:
                trial = _ask(study, space)
                trial.set_user_attr(SWEEP_OF, _name(settings, sweep))
                numbers.append(trial.number)
                left -= 1
            for together in _consecutive(numbers):
                self._launch(study, together, fixed)
        _report(study, sweep, self.config.objective)

    def _launch(self, study: "optuna.Study", numbers: Sequence[int], fixed: list[str]) -> None:
        """Run the jobs of trials with consecutive numbers, which are the jobs' numbers too."""
        from optuna.trial import TrialState

        given = {trial.number: trial.params for trial in study.trials if trial.number in numbers}
        lines = [[*fixed, *(f"{k}={v}" for k, v in given[n].items())] for n in numbers]
        self.validate_batch_is_legal(lines)
        returned = self.launcher.launch(lines, initial_job_idx=numbers[0])
        for number, job in zip(numbers, returned, strict=True):
            value = getattr(job, "_return_value", None)  # of a failed job, an exception
            if not isinstance(value, int | float) or not math.isfinite(value):
                study.tell(number, state=TrialState.FAIL)
            elif study.trials[number].user_attrs.get(PRUNED):
                study.tell(number, state=TrialState.PRUNED)  # its value is the last it reported
            else:
                study.tell(number, value)

    def _at_once(self, settings: DictConfig) -> int:
        if settings.at_once is not None:
            return check_int("sweeper.at_once", settings.at_once, 1)
        in_turn = type(self.launcher).__name__ == "BasicLauncher"
        return 1 if in_turn else os.cpu_count() or 1


def register() -> None:
    """Make the sweeper known to Hydra, which looks for its plugins in `hydra_plugins` only."""
    sys.modules["hydra_plugins.aecli"] = sys.modules[__name__]
    OptunaSweeper.__module__ = "hydra_plugins.aecli"
    Plugins.instance().register(OptunaSweeper)


def open_study(config: DictConfig, sweep: Path) -> "optuna.Study":
    """Return the study of a sweep: a new one, or the one there is in the storage.

    Raises `SettingError` if the storage cannot be reached, or if Optuna is not installed.
    """
    settings = config.sweeper
    seed = check_seed("sweeper.seed", settings.seed)
    prune = check_bool("sweeper.prune", settings.prune)
    try:
        import optuna
    except ImportError as error:
        told = 'sweeper=optuna: not installed; pip install -e ".[sweep]"'
        raise SettingError(told) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    direction = "maximize" if more_is_better(config.objective) else "minimize"
    place = settings.storage or str(sweep / STORAGE)
    try:
        storage = (
            optuna.storages.RDBStorage(place)
            if "://" in place
            else optuna.storages.JournalStorage(
                optuna.storages.journal.JournalFileBackend(str(Path(place).expanduser()))
            )
        )
        study = optuna.create_study(
            storage=storage,
            study_name=settings.study or STUDY,
            direction=direction,
            load_if_exists=True,
            pruner=(
                optuna.pruners.MedianPruner(n_warmup_steps=config.trainer.max_epochs // 4)
                if prune
                else optuna.pruners.NopPruner()
            ),
        )
    except Exception as error:  # whatever a database's driver can raise
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise SettingError(f"sweeper.storage={place}: cannot be reached ({why})") from error
    # Other draws than those before; runs beside each other count as bad until they are done.
    seed = (seed + len(study.trials)) % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    then = study.user_attrs.get(OBJECTIVE, config.objective)
    if then != config.objective:
        raise SettingError(
            f"sweeper.study={study.study_name}: that study has objective={then}; give this one"
            " another name"
        )
    study.set_user_attr(OBJECTIVE, config.objective)
    return study


def _name(settings: DictConfig, sweep: Path) -> str:
    """Return what tells a sweep's trials from those of others in the same storage."""
    return str(sweep.resolve()) if settings.storage else STUDY  # its own goes where it goes


def _ask(study: "optuna.Study", space: Mapping[str, "BaseDistribution"]) -> "optuna.Trial":
    try:
        return study.ask(dict(space))
    except ValueError as error:
        raise SettingError(
            f"sweeper.study={study.study_name}: that study searches other values ({error}); give"
            " this one another name"
        ) from error


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


def _distribution(override: Override) -> "BaseDistribution":
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
            numbers = [isinstance(value, int | float) for value in values.list]  # not their texts
            return CategoricalDistribution(
                [v if n else t for v, n, t in zip(values.list, numbers, texts, strict=True)]
            )
        if isinstance(values, RangeSweep):
            # Hydra's ranges leave their end out, Optuna's do not.
            numbers = [float(text) for text in override.sweep_string_iterator()]
            if not numbers:
                raise ValueError("it is empty")
            if all(number.is_integer() for number in numbers):
                step = int(values.step)
                return IntDistribution(int(numbers[0]), int(numbers[-1]), log=log, step=step)
            return FloatDistribution(numbers[0], numbers[-1], log=log, step=float(values.step))
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


def _consecutive(numbers: Sequence[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _report(study: "optuna.Study", sweep: Path, objective: str) -> None:
    """Print the best trial; draw how the study went, and which settings mattered."""
    from optuna.trial import TrialState

    states = [trial.state for trial in study.trials]
    pruned, failed = states.count(TrialState.PRUNED), states.count(TrialState.FAIL)
    told = f"{len(states)} trials, {pruned} of them ended early, {failed} failed"
    if TrialState.COMPLETE not in states:
        print(told)  # noqa: T201
        return
    best = study.best_trial
    given = " ".join(f"{key}={value}" for key, value in best.params.items())
    print(f"{told}; the best by {objective}: {best.value:.4g}, number {best.number}: {given}")  # noqa: T201
    names = _draw(study, sweep, objective)
    print(f"written: {', '.join(names)} in {shown(sweep)}")  # noqa: T201


def _draw(study: "optuna.Study", sweep: Path, objective: str) -> list[str]:
    import matplotlib as mpl
    from optuna.visualization import matplotlib as plots

    mpl.use("Agg")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    pictures = {"history.png": plots.plot_optimization_history, "slices.png": plots.plot_slice}
    if len([t for t in study.trials if t.value is not None]) > 2 and len(study.best_params) > 1:
        pictures["importances.png"] = plots.plot_param_importances
    for name, plot in pictures.items():
        kind: dict[str, Any] = {"target_name": objective}
        axes = plot(study, **kind)
        first = axes if hasattr(axes, "figure") else axes.flat[0]
        first.figure.savefig(sweep / name, bbox_inches="tight", dpi=120)
    return list(pictures)
