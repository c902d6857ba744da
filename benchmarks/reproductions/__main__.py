"""Run the experiments of the papers that have no result yet; write docs/reproductions.md.

    python -m benchmarks.reproductions                    # hours: all that is missing or stale
    python -m benchmarks.reproductions burda2015/vae      # one experiment
    python -m benchmarks.reproductions kingma2013         # those whose name has this in it
    python -m benchmarks.reproductions --table            # only the page, of what has been run

The result of a run is kept in docs/reproductions/PAPER/EXPERIMENT/seed-N.json and not measured
again while the experiment's settings stay the same; a run that was interrupted goes on from its
last checkpoint. The page and its picture are written from these files alone.

A goal is "reached" or "missed" where the 95 % confidence interval leaves it out, else "undecided":
the interval of the mean over seeds, or of one seed's test error over the test images. One seed
without a test error has no interval; its value alone decides.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.reproductions import OUTPUTS, PAGE, RESULTS, table
from benchmarks.reproductions.outcomes import outcome
from benchmarks.reproductions.picture import draw
from benchmarks.reproductions.rows import ROWS
from benchmarks.reproductions.running import keep_finished, run
from benchmarks.reproductions.settings import of_experiment


def main(words: Sequence[str] | None = None) -> None:
    """Run what the command line asks for, keep the results and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("name", nargs="?", default="", help="an experiment, or a part of names")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time (2)")
    parser.add_argument("--table", action="store_true", help="run nothing")
    asked = parser.parse_args(words)
    names = named(asked.name)
    # Hydra composes one configuration at a time: not in the threads.
    settings = {name: of_experiment(name)[0] for name in names}
    wanted = [(name, seed) for name in names for seed in range(ROWS[name].seeds)]
    failed = []
    if asked.table:
        for name, seed in wanted:
            keep_finished(name, seed, RESULTS, settings[name])
    else:
        with ThreadPoolExecutor(asked.jobs) as pool:
            codes = [
                pool.submit(run, name, seed, settings[name], RESULTS, asked.jobs)
                for name, seed in wanted
            ]
            try:
                failed = [
                    f"{name} seed={seed}"
                    for (name, seed), code in zip(wanted, codes, strict=True)
                    if code.result()
                ]
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)  # and not on with the next run
                sys.exit("interrupted; the same line goes on from the last epochs")
    write_page()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see {OUTPUTS}/*/*/*/output.log")


def named(typed: str) -> list[str]:
    """Return the experiment of this name, or else those whose names have it in them."""
    if typed in ROWS:
        return [typed]
    if found := [name for name in ROWS if typed in name]:
        return found
    sys.exit(f"{typed}: no such experiment; must be one of {', '.join(ROWS)}, or a part of these")


def write_page() -> None:
    """Write the page and its picture from the results."""
    outcomes = {name: outcome(name, row.seeds, RESULTS) for name, row in ROWS.items()}
    picture = PAGE.with_suffix(".png")
    draw(outcomes, picture)
    table.write_table(PAGE, outcomes, picture)


if __name__ == "__main__":
    main()
