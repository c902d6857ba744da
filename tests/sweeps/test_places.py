"""Jobs side by side: a place is free as soon as its job has ended."""

import threading

import pytest
from hydra.core.utils import JobReturn, JobStatus
from joblib.externals.loky.process_executor import TerminatedWorkerError
from submitit.core.utils import UncompletedJobError

from aecli.sweeps.places import Ended, Slots


def returned(value, status=JobStatus.COMPLETED):
    job = JobReturn(status=status)
    job.return_value = value
    return [job]


def test_quick_jobs_end_while_a_slow_one_runs():
    enough = threading.Event()

    def launch(overrides, initial_job_idx):
        if initial_job_idx == 0:
            assert enough.wait(30)
        return returned(float(initial_job_idx))

    places = Slots(launch, 2)
    places.start(0, ["slow"])
    for number in (1, 2, 3):
        assert places.free == 1
        places.start(number, ["quick"])
        assert places.free == 0
        assert places.wait(30) == Ended(number, float(number))
    assert places.wait(0.01) is None
    enough.set()
    assert places.wait(30) == Ended(0, 0.0)


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_a_failed_job_has_no_value(side_by_side):
    places = Slots(lambda *_, **__: returned(ValueError("x"), JobStatus.FAILED), side_by_side)
    places.start(3, [])
    assert places.wait(30) == Ended(3, None)


@pytest.mark.parametrize("error", [TerminatedWorkerError, UncompletedJobError])
def test_a_job_whose_process_has_gone_is_lost(error):
    def launch(overrides, initial_job_idx):
        raise error("killed\nby a signal")

    places = Slots(launch, 2)
    places.start(3, [])
    assert places.wait(30) == Ended(3, None, "killed")


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_what_a_launcher_raises_is_raised(side_by_side):
    def launch(overrides, initial_job_idx):
        raise RuntimeError("no such queue")

    places = Slots(launch, side_by_side)

    def run():
        places.start(0, [])
        places.wait(30)

    with pytest.raises(RuntimeError, match="no such queue"):
        run()


def test_a_single_place_runs_its_job_in_the_main_thread():
    threads = []

    def launch(overrides, initial_job_idx):
        threads.append(threading.current_thread())
        return returned(1.0)

    Slots(launch, 1).start(0, [])
    assert threads == [threading.main_thread()]
