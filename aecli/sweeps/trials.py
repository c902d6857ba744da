"""Which trial a sweep runs next, alone or together with other machines.

All machines of a study work on the same number of trials. A trial belongs to the sweep that asked
for it, which goes on with it after an interruption. In a database a running trial gives signs of
life; when these end, another machine queues the trial's settings again, so that none is lost.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import TYPE_CHECKING

from aecli.errors import SettingError
from aecli.sweeps.study import (
    GRACE,
    HEARTBEAT,
    RETRY_OF,
    give_sign_of_life,
    gives_signs_of_life,
    try_again,
)

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

OWNER, PRUNED, SURPLUS = "sweep", "pruned", "surplus"
"""What a trial is marked with: the sweep that runs it; ended early; one more than wanted."""


class Trials:
    """The trials of a study that one sweep runs.

    Args:
        study: what they belong to.
        owner: the name of this sweep; None if no other takes part in the study.
        space: the settings to search.
        wanted: number of trials of the whole study, those of other machines included.
    """

    def __init__(
        self,
        study: "optuna.Study",
        owner: str | None,
        space: Mapping[str, "BaseDistribution"],
        wanted: int,
    ) -> None:
        self.study, self.owner, self.space, self.wanted = study, owner, dict(space), wanted
        self.alive = gives_signs_of_life(study)
        self.running: set[int] = set()
        """The numbers of the trials that run here."""

    def next(self) -> "FrozenTrial | None":
        """Return a trial to run: one that was interrupted, or a new one; None if there is none."""
        self._take_over()
        number = self._interrupted()
        if number is None:
            number = self._ask()
        if number is None:
            return None
        self.running.add(number)
        return self.study.trials[number]

    def tell(self, number: int, value: float | None) -> None:
        """Report a trial's result to the study; None if it failed."""
        from optuna.trial import TrialState

        self.running.discard(number)
        if value is None:
            outcome: dict = {"state": TrialState.FAIL}
        elif self.study.trials[number].user_attrs.get(PRUNED):
            outcome = {"state": TrialState.PRUNED}  # its value is the last one reported
        else:
            outcome = {"values": value}
        # Finished already if others took it over, since this machine was not heard of for a while.
        self.study.tell(number, **outcome, skip_if_finished=True)

    def lose(self, number: int) -> bool:
        """Queue a trial's settings again, since its process has gone; return whether that was done.

        Once only: a trial that is lost a second time has failed.
        """
        trial = self.study.trials[number]
        self.tell(number, None)
        is_first = RETRY_OF not in trial.user_attrs
        if is_first:
            try_again(self.study, trial)
        return is_first

    def others_run(self) -> int:
        """Return how many trials other machines are running that may yet have to be taken over."""
        if self.owner is None or not self.alive:
            return 0
        return sum(not t.state.is_finished() and t.number not in self.running for t in self._all())

    @contextmanager
    def signs_of_life(self) -> Iterator[None]:
        """Tell the database, from a thread, that the trials that run here are alive."""
        ended = Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT):
                for number in tuple(self.running):
                    with suppress(Exception):  # the server is away for a moment
                        give_sign_of_life(self.study, number)

        if self.alive:
            Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _all(self) -> "Sequence[FrozenTrial]":
        return self.study.get_trials(deepcopy=False)

    def _take_over(self) -> None:
        """Queue again what machines that have gone were running."""
        from optuna.storages import fail_stale_trials
        from optuna.trial import TrialState

        if self.owner is None:
            return
        fail_stale_trials(self.study)  # of a database; calls try_again
        latest = datetime.now() - timedelta(seconds=GRACE)
        for trial in self._all():
            asked_in_vain = trial.state == TrialState.RUNNING and OWNER not in trial.user_attrs
            if asked_in_vain and trial.datetime_start and trial.datetime_start < latest:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                try_again(self.study, trial)

    def _interrupted(self) -> int | None:
        """Return the number of a trial that this sweep began and does not run at the moment."""
        from optuna.trial import TrialState

        for trial in self._all():
            is_ours = self.owner is None or trial.user_attrs.get(OWNER) == self.owner
            is_begun = trial.state == TrialState.RUNNING and trial.number not in self.running
            if is_ours and is_begun:
                return trial.number
        return None

    def _ask(self) -> int | None:
        """Return the number of a new trial, None if the study has as many as were asked for."""
        from optuna.trial import TrialState

        trials = self._all()
        is_queued = any(trial.state == TrialState.WAITING for trial in trials)
        if not is_queued and _count(trials) >= self.wanted:
            return None
        try:
            trial = self.study.ask(self.space)
        except ValueError as error:
            raise SettingError(
                f"sweeper.study={self.study.study_name}: that study searches other values"
                f" ({error}); give this one another name"
            ) from error
        if self.alive:
            give_sign_of_life(self.study, trial.number)
        trial.set_user_attr(OWNER, self.owner)
        is_new = RETRY_OF not in trial.user_attrs
        if is_new and _count(self._all()[: trial.number]) >= self.wanted:
            # Another machine asked for the last one at the same moment.
            trial.set_user_attr(SURPLUS, True)
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        return trial.number


def counted(trials: "Iterable[FrozenTrial]") -> "list[FrozenTrial]":
    """Return the trials that were run to an end, without those that others took over."""
    trials = list(trials)
    taken_over = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    return [t for t in trials if t.number not in taken_over and SURPLUS not in t.user_attrs]


def _count(trials: "Iterable[FrozenTrial]") -> int:
    return sum(not {RETRY_OF, SURPLUS} & trial.user_attrs.keys() for trial in trials)
