"""Evaluates a finished run again, by an experiment's present settings of `eval`.

    python -m benchmarks.reproductions.evaluating PAPER/EXPERIMENT RUN

The run's `metrics.json` and the `eval` of its `config.yaml` are then what it was measured by.
"""

import logging
import sys
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from aecli import files
from aecli.commands.evaluate import evaluate
from aecli.config import composed
from aecli.runs.experiment import report
from aecli.runs.find import find
from aecli.runs.paths import CONFIG


def evaluate_again(name: str, directory: Path) -> None:
    """Evaluate the run in `directory` as the experiment `name` says now."""
    now = composed("train", f"experiment={name}")
    config = cast(DictConfig, OmegaConf.load(directory / CONFIG))
    config.eval, config.published = now.eval, now.published
    (run,) = find(str(directory))
    values = evaluate(run, config.eval, config.seed, root=now.dataset.get("root"))
    report(name, config, values, directory)
    files.write(directory / CONFIG, OmegaConf.to_yaml(config))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    evaluate_again(sys.argv[1], Path(sys.argv[2]))
