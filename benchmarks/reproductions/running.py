"""Runs what has no result yet, or one of other settings, and keeps the results."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aecli.runs.metrics_file import read_metrics
from aecli.runs.paths import CONFIG, LAST, checkpoint_path
from benchmarks.reproductions import OUTPUTS, REPOSITORY
from benchmarks.reproductions.results import read, result_path, write
from benchmarks.reproductions.settings import differences, of_run

COMMIT = "commit.txt"
"""In the folder of a seed: the commits that its run was started and resumed from."""
UNKNOWN = "unknown"


def run(name: str, seed: int, settings: Mapping[str, Any], results: Path, jobs: int) -> int:
    """Run an experiment, or the rest of it, and keep its result; return the exit status.

    Nothing is run if there is a result with the experiment's present `settings`.
    """
    keep_finished(name, seed, results, settings)
    if is_kept(name, seed, results, settings):
        return 0
    folder = seed_folder(name, seed)
    command = [sys.executable, "-m", "aecli", "train"]
    if started := [r for r in runs_in(folder, settings) if checkpoint_path(r, LAST).exists()]:
        command += [f"resume={started[-1]}"]
    else:
        command += [f"experiment={name}", f"seed={seed}", f"output_dir={folder}"]
    print(*command[2:], flush=True)  # noqa: T201
    folder.mkdir(parents=True, exist_ok=True)
    _note_commit(folder / COMMIT, resumed=bool(started))
    # Small networks: two runs of one thread are faster than one after the other of two.
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with (folder / "output.log").open("a") as output:
        status = subprocess.run(command, stdout=output, stderr=output, env=environment).returncode
    if status == 0:
        keep_finished(name, seed, results, settings)
    return status


def keep_finished(name: str, seed: int, results: Path, settings: Mapping[str, Any]) -> None:
    """Write the result of a finished run that has none, or a stale one.

    A run of these `settings` is preferred, and it alone replaces a result; the newest of several.
    """
    if is_kept(name, seed, results, settings):
        return
    folder = seed_folder(name, seed)
    ended = [run for run in runs_in(folder) if "experiment" in read_metrics(run)]
    same = [run for run in runs_in(folder, settings) if run in ended]
    is_first = not result_path(results, name, seed).exists()
    if same or (ended and is_first):
        noted = folder / COMMIT
        commits = noted.read_text().splitlines() if noted.exists() else [UNKNOWN]
        commit = None if commits == [UNKNOWN] else " then ".join(commits)
        write((same or ended)[-1], name, seed, results, commit)
        noted.unlink(missing_ok=True)  # it says nothing about another run in this folder


def is_kept(name: str, seed: int, results: Path, settings: Mapping[str, Any]) -> bool:
    """Return whether there is a result of an experiment with a seed and with these settings."""
    result = read(results, name, seed)
    return result is not None and not list(differences(result["settings"], settings))


def seed_folder(name: str, seed: int) -> Path:
    """Return the folder that holds the runs of an experiment with a seed."""
    return OUTPUTS / name / f"seed-{seed}"


def runs_in(folder: Path, settings: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Return the runs in a folder, the oldest first; with `settings`, those that have them."""
    for config in sorted(folder.glob(f"*/*/{CONFIG}")):
        run = config.parents[1]
        if settings is None or not list(differences(of_run(run), settings)):
            yield run


def _note_commit(path: Path, *, resumed: bool) -> None:
    """Note the commit of the code that is about to run; beside the one before, if it resumes."""
    commit = current_commit()
    noted = [commit or UNKNOWN]
    if resumed:
        before = path.read_text().splitlines() if path.exists() else [UNKNOWN]
        noted = list(dict.fromkeys([*before, *noted]))
    path.write_text("\n".join(noted))


def current_commit() -> str | None:
    """Return the commit that is checked out; None without git.

    It says so if what computes, or a setting, was changed since.
    """
    try:
        return _git("rev-parse", "HEAD") + (
            " (changed)" if _git("status", "--porcelain", "--", "aecli", "conf") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*words: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
