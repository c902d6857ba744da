"""Jobs side by side: each place takes the next job as soon as its own has ended."""

from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple

from hydra.core.utils import JobReturn, JobStatus

Launch = Callable[..., Sequence[JobReturn]]
"""`launch` of a launcher of Hydra: takes the overrides of each job and the first one's number."""


class Ended(NamedTuple):
    """A job that has ended."""

    number: int
    value: float | None
    """What it returned; None if it failed."""
    lost: str | None = None
    """Why its process has gone without a result, such as killed for its memory, or cancelled."""


class Slots:
    """A number of places, each for one job at a time.

    A launcher returns when all the jobs of one call have ended. So each job gets a call of its
    own, in a thread that waits for it. A single place needs no thread: the job then runs in the
    main thread, which alone may handle signals.

    Args:
        launch: of Hydra's launcher.
        places: how many jobs run side by side.
    """

    def __init__(self, launch: Launch, places: int) -> None:
        self._launch, self._side_by_side = launch, places > 1
        self._ended: SimpleQueue[tuple[int, JobReturn | BaseException]] = SimpleQueue()
        self.free = places

    def start(self, number: int, overrides: Sequence[str]) -> None:
        """Start the job of this number."""
        self.free -= 1
        if self._side_by_side:
            Thread(target=self._run, args=(number, overrides), daemon=True).start()
        else:
            self._run(number, overrides)

    def wait(self, seconds: float) -> Ended | None:
        """Return a job that has ended; None if none does for so long.

        Raises what the launcher raised.
        """
        try:
            number, job = self._ended.get(timeout=seconds)
        except Empty:
            return None
        self.free += 1
        if isinstance(job, JobReturn):
            return Ended(number, job.return_value if job.status is JobStatus.COMPLETED else None)
        # joblib's and submitit's words for it; submitit need not be there.
        if isinstance(job, BrokenExecutor) or type(job).__name__ == "UncompletedJobError":
            return Ended(number, None, (str(job).splitlines() or [type(job).__name__])[0])
        raise job

    def _run(self, number: int, overrides: Sequence[str]) -> None:
        try:
            (job,) = self._launch([list(overrides)], initial_job_idx=number)
        except BaseException as error:
            if not self._side_by_side:
                raise
            self._ended.put((number, error))
        else:
            self._ended.put((number, job))
