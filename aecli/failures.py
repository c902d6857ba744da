"""What is written, removed and said where a run fails or is interrupted. No torch here."""

import platform
import sys
import time
from contextlib import suppress

from aecli.distributed import is_first_here, launched, rank
from aecli.terminal import end_bars
from aecli.text import printable

GRACE = 3.0
"""Seconds in which the first of several processes ends the others by what it has found as well."""


def say(failure: str) -> None:
    """Print why this process ends, if it is the first on its machine.

    What all of several processes find is said by the very first, which ends the others; one that
    lives longer has a reason of its own, such as a file that is missing on its machine.
    """
    if not is_first_here():
        return
    if rank() > 0:
        time.sleep(GRACE)
        failure = f"rank {rank()} on {platform.node()}: {failure}"
    end_bars()
    print(f"aecli: {printable(failure)}", file=sys.stderr)  # noqa: T201


def report(failure: str) -> None:
    """Print why a job failed; if it is one of a sweep, write that into its directory, too."""
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from aecli import files
    from aecli.config import is_sweep
    from aecli.runs.listed import is_locked
    from aecli.runs.paths import ERROR

    job = ""
    if is_sweep():
        hydra = HydraConfig.get()
        job, directory = f"job {hydra.job.num}: ", Path(hydra.runtime.output_dir)
        if not is_locked(directory):  # another process trains it, and may well succeed
            with suppress(files.WriteError):  # on a full disk, the line below is all there is
                files.write(directory / ERROR, f"{printable(failure)}\n")
    say(job + failure)


def forget_failure() -> None:
    """Remove what an earlier try of a sweep's job left: it is tried again."""
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from aecli.config import is_sweep
    from aecli.runs.paths import ERROR

    if is_sweep():
        (Path(HydraConfig.get().runtime.output_dir) / ERROR).unlink(missing_ok=True)


def discard_directory() -> None:
    """Remove the run's directory if its training was refused before it began."""
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from aecli.runs.paths import discard_refused

    if rank() == 0:
        discard_refused(Path(HydraConfig.get().runtime.output_dir))


def discard_sweep() -> None:
    """Remove the sweep's directory if it was refused before any of its jobs began."""
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from aecli.config import is_sweep
    from aecli.runs.paths import discard_empty_sweep

    if is_sweep():
        discard_empty_sweep(Path(HydraConfig.get().sweep.dir))


def how_to_go_on(command: str) -> str:
    """Return what to type to go on with a training that was interrupted."""
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from aecli.config import is_sweep
    from aecli.overrides import key_of
    from aecli.runs.paths import as_typed

    if command != "train" or not HydraConfig.initialized():
        return ""
    hydra = HydraConfig.get()
    if is_sweep():
        return f"; to go on with it: the same line and {as_typed('resume', hydra.sweep.dir)}"
    if any(word.startswith("resume=") for word in hydra.overrides.task):
        return "; to go on with it: the same line again"
    if not (Path(hydra.run.dir) / ".hydra").is_dir():
        return ""
    how = "started as before, " if launched() else ""
    run = as_typed("resume", hydra.run.dir)
    typed = next((f" {word}" for word in hydra.overrides.task if key_of(word) == "plugins"), "")
    return f"; to go on with it: {how}aecli train {run}{typed}"
