"""The result of a run as a small JSON file: written when the run has ended, read for the page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aecli import files
from aecli.runs.metrics_file import read_metrics
from benchmarks.reproductions.settings import of_run

POINTS = 100
"""Epochs of a validation curve, at most."""
CURVE = "val/loss"
COPIED = (
    "epochs",
    "best_epoch",
    "parameters",
    "device",
    "processor",
    "threads",
    "precision",
    "date",
)
"""What a result has from the run's `metrics.json` as it stands there; null where it has not."""
NO_METRICS = ("checkpoint", "seed", "seconds", "settings", "own_metrics")
"""What else stands beside the test metrics in `metrics.json`."""


def result_path(results: Path, name: str, seed: int) -> Path:
    """Return where the result of an experiment with a seed lies."""
    return results / name / f"seed-{seed}.json"


def read(results: Path, name: str, seed: int) -> dict[str, Any] | None:
    """Return the result of an experiment with a seed; None if there is none."""
    path = result_path(results, name, seed)
    return json.loads(path.read_text()) if path.is_file() else None


def write(run: Path, name: str, seed: int, results: Path, commit: str | None) -> Path:
    """Write the result of a finished run of an experiment and return the file's path.

    `commit` is that of the code that ran; None if it is unknown.
    """
    metrics = read_metrics(run)
    experiment, test = metrics["experiment"], metrics["test"]
    seconds = metrics["train_seconds"], metrics.get("pretrain_seconds")
    epochs, losses = curve(run) if metrics["epochs"] else ([], [])
    result = {
        "experiment": name,
        "seed": seed,
        "metric": experiment["metric"],
        "here": experiment["here"],
        "interval": experiment["interval"],
        "changed": experiment["changed"],
        "test": {key: value for key, value in test.items() if key not in NO_METRICS},
        "val": metrics["val"],
        "seconds": _seconds(*seconds, test["seconds"]),
        "versions": {
            "aecli": metrics["version"],
            "torch": metrics["torch"],
            "python": metrics.get("python"),
        },
        "commit": commit,
        **{key: metrics.get(key) for key in COPIED},
        "settings": of_run(run),
        "curve": {"metric": CURVE, "epochs": epochs, "values": losses},
    }
    # A line for each key: short, and a change of one is seen in a diff.
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items()]
    return files.write(result_path(results, name, seed), "{\n" + ",\n".join(lines) + "\n}\n")


def _seconds(training: float, pretraining: float | None, evaluation: float) -> Mapping[str, Any]:
    """Return the seconds of each; those of the pretraining are null if nobody knows them."""
    rest = round(training - (pretraining or 0), 1)
    return {"pretraining": pretraining, "training": rest, "evaluation": evaluation}


def curve(run: Path) -> tuple[list[int], list[float]]:
    """Return epochs, and the validation loss after each of them, from TensorBoard's events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    if CURVE not in events.Tags()["scalars"]:
        return [], []
    # Lightning counts epochs from 0. What an interrupted run repeats has the same step.
    epochs = {event.step: round(event.value) + 1 for event in events.Scalars("epoch")}
    losses = {epochs[event.step]: event.value for event in events.Scalars(CURVE)}
    every = -(-len(losses) // POINTS)
    kept = sorted(losses)[::-1][::every][::-1] if every else []  # the last one is among them
    return kept, [float(f"{losses[epoch]:.5g}") for epoch in kept]
