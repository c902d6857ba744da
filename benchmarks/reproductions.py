"""Run every experiment of the papers and rewrite the table of docs/reproductions.md.

    python -m benchmarks.reproductions                    # hours: all experiments, all seeds
    python -m benchmarks.reproductions kingma2013         # those whose name has this in it
    python -m benchmarks.reproductions --table            # only the table, of what has been run

A run that is done is not repeated, one that was interrupted goes on from its last checkpoint.
A goal is "reached" or "missed" where the 95 % confidence interval leaves it out, else "undecided":
the interval of the mean over seeds, or of one seed's test error over the test images. One seed
without a test error has no interval; its value alone decides.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from aecli.runs import intervals
from aecli.runs.experiment import is_accuracy, verdict
from aecli.runs.intervals import Interval

REPOSITORY = Path(__file__).parents[1]
CONF = REPOSITORY / "conf" / "experiment"
PAGE = REPOSITORY / "docs" / "reproductions.md"
OUTPUTS = Path("outputs") / "reproductions"
SEEDS = {
    "hinton2006/pca": 3,
    "hinton2006/deep_ae": 1,
    "hinton2006/deep_ae_batch_norm": 1,
    "vincent2010/sdae3": 3,
    "vincent2010/mlp": 3,
    "vincent2010/basic_sdae3": 3,
    "vincent2010/basic_sae3": 3,
    "ng2011/self_taught": 3,
    "ng2011/stacked": 3,
    "makhzani2013/k10": 3,
    "makhzani2013/k25": 3,
    "makhzani2013/k40": 3,
    "makhzani2013/k70": 3,
    "kingma2013/vae_400": 1,
    "kingma2013/d2": 3,
    "kingma2013/d5": 3,
    "kingma2013/d10": 3,
    "kingma2013/d20": 1,
    "burda2015/vae": 3,
    "burda2015/iwae5": 1,
    "tomczak2018/vae": 1,
    "tomczak2018/vamp": 1,
}
"""The experiments in the order of the table; three seeds where a run takes under 20 minutes."""
UNDER = {
    "vincent2010/sdae3": ("vincent2010/mlp", 0.0),
    "vincent2010/basic_sdae3": ("vincent2010/basic_sae3", 0.3),
    "makhzani2013/k25": ("makhzani2013/k40", 0.0),
    "burda2015/iwae5": ("burda2015/vae", 1.0),
    "tomczak2018/vamp": ("tomczak2018/vae", 1.0),
}
"""What an experiment's value has to be under, and by how much at least."""
PIXELS = {"ng2011/self_taught": 1.0, "makhzani2013/k25": 0.0}
"""By how much the error has to be under that of the raw pixels."""
START, END = "<!-- table: written by benchmarks/reproductions.py -->", "<!-- end of table -->"
HEAD = (
    "| `aecli train experiment=…` | metric | published | goal | here | 95 % | seeds | epochs |"
    " minutes | beside it |"
)


def main() -> None:
    """Run what the command line asks for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="?", default="", help="part of the experiments' names")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time (2)")
    parser.add_argument("--table", action="store_true", help="run nothing")
    asked = parser.parse_args()
    failed = []
    if not asked.table:
        wanted = [
            (name, seed)
            for name, seeds in SEEDS.items()
            for seed in range(seeds)
            if asked.name in name
        ]
        with ThreadPoolExecutor(asked.jobs) as pool:
            codes = [pool.submit(run, name, seed, asked.jobs) for name, seed in wanted]
        failed = [
            f"{name} seed={seed}"
            for (name, seed), code in zip(wanted, codes, strict=True)
            if code.result()
        ]
    write_table()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see {OUTPUTS}/*.log")


def run(name: str, seed: int, jobs: int) -> int:
    """Run an experiment, or the rest of it, or nothing if it is done; return the exit status."""
    folder = OUTPUTS / name / f"seed-{seed}"
    if any(done(folder)):
        return 0
    command = [shutil.which("aecli") or "aecli", "train"]
    if started := sorted(folder.glob("*/*/checkpoints/last.ckpt")):
        command += [f"resume={started[-1].parent.parent}"]
    else:
        command += [f"experiment={name}", f"seed={seed}", f"output_dir={folder}"]
    print(*command[1:], flush=True)  # noqa: T201
    folder.mkdir(parents=True, exist_ok=True)
    # Small networks: two runs of one thread are faster than one after the other of two.
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with (folder / "output.log").open("a") as output:
        return subprocess.run(command, stdout=output, stderr=output, env=environment).returncode


def done(folder: Path) -> Iterator[dict[str, Any]]:
    """Return what `metrics.json` holds of the finished runs in a folder, unchanged settings."""
    for path in sorted(folder.glob("*/*/metrics.json")):
        metrics = json.loads(path.read_text())
        if "experiment" in metrics and not metrics["experiment"]["changed"]:
            yield metrics


def write_table() -> None:
    """Put the table of all finished runs in its place."""
    page = PAGE.read_text()
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    runs = {
        name: [m for seed in range(seeds) for m in done(OUTPUTS / name / f"seed-{seed}")]
        for name, seeds in SEEDS.items()
    }
    lines = [HEAD, re.sub(r"[^|]+", "---", HEAD), *(row(name, runs) for name in runs)]
    table, everything = "\n".join(lines), [m for found in runs.values() for m in found]
    PAGE.write_text(f"{before}{START}\n\n{table}\n\n{machine(everything)}\n{END}{after}")


def machine(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return a line about what the runs were made with."""

    def kinds(key: str) -> str:
        return ", ".join(sorted({str(metrics[key]) for metrics in runs if key in metrics}))

    hours = sum(metrics["train_seconds"] for metrics in runs) / 3600
    return (
        f"{len(runs)} runs, {hours:.1f} hours of training in all (two runs at a time, half of that"
        f" on the clock), on {kinds('device')} with {kinds('threads')} threads a run;"
        f" aecli {kinds('version')}, torch {kinds('torch')}; {kinds('date')}.\n"
    )


def row(name: str, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return an experiment's row: mean ± standard deviation over its runs, and the interval."""
    if not runs[name]:
        return f"| `{name}` | not run yet |" + " |" * 8
    first, here = runs[name][0]["experiment"], values(runs[name])
    spread = f" ± {stdev(here):.2g}" if len(here) > 1 else ""
    published = "–" if first["published"] is None else f"{first['published']} ({first['evidence']})"
    interval, goal = interval_of(runs[name]), "–"
    if first["goal"] is not None:
        higher = is_accuracy(first["metric"])
        outcome = verdict(first["goal"], mean(here), interval, higher=higher)
        goal = f"{'≥' if higher else '≤'} {first['goal']}: {outcome}"
    minutes = mean(m["train_seconds"] + m["test"].get("seconds", 0) for m in runs[name]) / 60
    cells = [
        f"`{name}`",
        first["metric"],
        published,
        goal,
        f"**{mean(here):.2f}**{spread}",
        f"{interval.low:.2f} to {interval.high:.2f}" if interval else "–",
        str(len(here)),
        f"{mean(metrics['epochs'] for metrics in runs[name]):.0f}",
        f"{minutes:.0f}" if minutes >= 1 else "<1",
        "; ".join(beside(name, runs)),
    ]
    return f"| {' | '.join(cells)} |"


def interval_of(runs: Sequence[Mapping[str, Any]]) -> Interval | None:
    """Return the 95 % interval of the mean over seeds; of one run, that over the test images."""
    if len(runs) == 1:
        stored = runs[0]["experiment"].get("interval")
        return Interval(*stored) if stored else None
    return intervals.of_mean(values(runs))


def beside(name: str, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Say how an experiment compares with others of the table and with the raw pixels."""
    if name in UNDER:
        other, least = UNDER[name]
        if runs[other]:
            under = mean(values(runs[other])) - mean(values(runs[name]))
            found = intervals.of_difference(by_seed(runs[other]), by_seed(runs[name]))
            yield _under(under, found and found.interval, f"`{other}`", least)
    if name in PIXELS:
        tests = [metrics["test"] for metrics in runs[name]]
        gains = [test["probe_error_pixels"] - test["probe_error"] for test in tests]
        yield _under(mean(gains), intervals.of_mean(gains), "raw pixels", PIXELS[name])


def _under(under: float, interval: Interval | None, what: str, least: float) -> str:
    bounds = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval else ""
    outcome = verdict(least, under, interval, higher=True)
    return f"{under:.2f}{bounds} under {what} (≥ {least:g}: {outcome})"


def values(runs: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return what the runs of an experiment measured."""
    return [metrics["experiment"]["here"] for metrics in runs]


def by_seed(runs: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Return what the runs of an experiment measured, by the seed of the run."""
    # An experiment evaluates itself with the run's seed.
    return {metrics["test"]["seed"]: metrics["experiment"]["here"] for metrics in runs}


if __name__ == "__main__":
    main()
