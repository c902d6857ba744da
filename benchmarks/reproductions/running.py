"""Runs what has no result yet, or one of other settings, and keeps the results."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
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
THEN = " then "
EVALUATING = "benchmarks.reproductions.evaluating"


def run(name: str, seed: int, settings: Mapping[str, Any], results: Path, jobs: int) -> int:
    """Run an experiment, or the rest of it, and keep its result; return the exit status.

    Nothing is run if there is a result with the experiment's present `settings`. A finished run
    whose settings differ in those of `eval` alone is evaluated again, and not trained.
    """
    keep_finished(name, seed, results, settings)
    if is_kept(name, seed, results, settings):
        return 0
    folder = seed_folder(name, seed)
    folder.mkdir(parents=True, exist_ok=True)
    before = None
    if trained := list(_evaluated_otherwise(folder, settings)):
        command = [EVALUATING, name, str(trained[-1])]
        before = _commit_of(read(results, name, seed))
    elif started := [r for r in runs_in(folder, settings) if checkpoint_path(r, LAST).exists()]:
        command = ["aecli", "train", f"resume={started[-1]}"]
        before = _noted(folder / COMMIT)
    else:
        command = ["aecli", "train", f"experiment={name}", f"seed={seed}", f"output_dir={folder}"]
    print(*command, flush=True)  # noqa: T201
    _note_commit(folder / COMMIT, before)
    # Small networks: two runs of one thread are faster than one after the other of two.
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with (folder / "output.log").open("a") as output:
        python = [sys.executable, "-m", *command]
        status = subprocess.run(python, stdout=output, stderr=output, env=environment).returncode
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
        commits = _noted(folder / COMMIT)
        commit = None if commits == [UNKNOWN] else THEN.join(commits)
        write((same or ended)[-1], name, seed, results, commit)
        # It says nothing about another run in this folder.
        (folder / COMMIT).unlink(missing_ok=True)


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


def _evaluated_otherwise(folder: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Return the finished runs in a folder that differ from `settings`, but in `eval` alone."""
    for run in runs_in(folder):
        other = [
            difference.startswith("eval.") for difference in differences(of_run(run), settings)
        ]
        if other and all(other) and "experiment" in read_metrics(run):
            yield run


def _note_commit(path: Path, before: Sequence[str] | None) -> None:
    """Note the commit of the code that is about to run, beside those that the run had `before`."""
    path.write_text("\n".join(dict.fromkeys([*(before or ()), current_commit() or UNKNOWN])))


def _noted(path: Path) -> list[str]:
    """Return the commits that were noted in a folder."""
    return path.read_text().splitlines() if path.exists() else [UNKNOWN]


def _commit_of(result: Mapping[str, Any] | None) -> list[str]:
    """Return the commits that a result has."""
    return (result["commit"] if result and result["commit"] else UNKNOWN).split(THEN)


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
