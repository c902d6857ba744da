"""`launcher=submitit_slurm` where Slurm keeps no accounts of its jobs.

submitit asks `sacct` for the state of its jobs. Without accounting each question prints two
warnings, and a job that was cancelled counts as running for ever. `squeue` knows as much.
"""

import subprocess


def watch_by_squeue() -> None:
    """Let submitit ask `squeue`, if `sacct` has no answer.

    It takes submitit's private `_make_command`, `read_info` and `_registered`, and replaces the
    public `SlurmJob.watcher`. Without that the warnings are back.
    """
    from submitit import SlurmJob
    from submitit.slurm.slurm import SlurmInfoWatcher

    class QueueWatcher(SlurmInfoWatcher):
        """The states of all jobs in the queue; what is not there any more has ended."""

        def _make_command(self) -> list[str]:
            return ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T"]

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            text = string if isinstance(string, str) else string.decode()
            states = dict(line.split("|", 1) for line in text.splitlines())
            return {job: {"State": states.get(job, "COMPLETED")} for job in self._registered}

    try:
        accounts = subprocess.run(["sacct", "--noheader", "--jobs=1"], capture_output=True)
    except FileNotFoundError:
        return  # no Slurm at all: submitit says so
    if accounts.returncode != 0:
        SlurmJob.watcher = QueueWatcher(delay_s=60)
