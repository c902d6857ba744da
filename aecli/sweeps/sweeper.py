"""`sweeper=optuna`: each run's settings are chosen by what came out of the runs before.

Hydra's own plugin for Optuna brings a version from 2021, whose storage on a database fails with
today's SQLAlchemy, cannot end bad runs early and numbers the runs of a resumed study from 0 again.
Optuna is imported where a study is opened.
"""

import logging
import math
import os
import sys
import time
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from aecli import files
from aecli.distributed import end_children
from aecli.errors import SettingError, check_int
from aecli.machine import check_processes
from aecli.runs.paths import SWEEP
from aecli.sweeps.places import Ended, Slots
from aecli.sweeps.report import report
from aecli.sweeps.space import space_of
from aecli.sweeps.study import HEARTBEAT, identity, open_study
from aecli.sweeps.trials import Trials


class Search(Sweeper):
    """Asks a study for settings, runs a job with them and reports the result to the study."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives to a sweeper."""
        self.hydra_context, self.config = hydra_context, config
        self.at_once = _at_once(config)
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run jobs until the study has `sweeper.trials`, interrupted ones first."""
        assert self.config is not None
        assert self.launcher is not None
        settings, sweep = self.config.sweeper, Path(self.config.hydra.sweep.dir)
        wanted = check_int("sweeper.trials", settings.trials, 1)
        check_int("trainer.max_epochs", self.config.trainer.max_epochs, 0)
        fixed, space = space_of(arguments, settings)
        # What resume= compares the line with.
        files.write(sweep / SWEEP, OmegaConf.to_yaml(self.config))
        study = open_study(self.config, sweep)
        trials = Trials(study, identity(sweep) if settings.storage else None, space, wanted)
        places = Slots(self.launcher.launch, self.at_once)
        for name in ("hydra", "hydra_plugins"):  # launchers name the settings of each call
            logging.getLogger(name).setLevel(logging.WARNING)
        with trials.signs_of_life():
            try:
                self._run(trials, places, fixed)
            except BaseException:
                if trials.running and self.at_once > 1:
                    end_children()  # resume= goes on with them
                raise
        report(study, sweep, self.config.objective)

    def _run(self, trials: Trials, places: Slots, fixed: list[str]) -> None:
        waits = False
        while True:
            while places.free and (trial := trials.next()):
                chosen = [f"{key}={value}" for key, value in trial.params.items()]
                self.validate_batch_is_legal([[*fixed, *chosen]])
                print(f"trial {trial.number}: {' '.join(chosen)}", flush=True)  # noqa: T201
                places.start(trial.number, [*fixed, *chosen])
            if trials.running:
                ended = places.wait(HEARTBEAT)
                if ended is not None:
                    _tell(trials, ended)
            elif others := trials.others_run():
                if not waits:
                    print(f"waiting for {others} trials of other machines")  # noqa: T201
                waits = True
                time.sleep(HEARTBEAT)
            else:
                return


def _tell(trials: Trials, ended: Ended) -> None:
    value = ended.value
    if ended.lost is not None:
        queued = "; its settings are queued again" if trials.lose(ended.number) else ""
        print(f"aecli: trial {ended.number}: {ended.lost}{queued}", file=sys.stderr)  # noqa: T201
    elif isinstance(value, int | float) and math.isfinite(value):
        trials.tell(ended.number, value)
    else:
        trials.tell(ended.number, None)


def _at_once(config: DictConfig) -> int:
    """Return how many jobs run side by side; set the launcher to as many.

    Raises `SettingError` if the launcher cannot.
    """
    launcher = config.hydra.launcher
    name = config.hydra.runtime.choices["hydra/launcher"]
    typed = config.sweeper.at_once
    if typed is not None:
        check_int("sweeper.at_once", typed, 1)
        if name == "basic" and typed > 1:
            raise SettingError(
                f"sweeper.at_once={typed}: launcher=basic runs one job after the other; add"
                " launcher=joblib"
            )
        if name == "joblib":
            check_processes(f"sweeper.at_once={typed}", typed)
    default = 1 if name == "basic" else os.cpu_count() or 1
    if name != "joblib":
        return typed or default
    places = typed or (launcher.n_jobs if launcher.n_jobs > 0 else default)
    with read_write(config.hydra), open_dict(config.hydra):
        launcher.n_jobs = places  # of processes, which share the cores
    return places
