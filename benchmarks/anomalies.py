"""Anomaly detection on labelled tables that come with scikit-learn, beside PyOD's detectors.

    python -m benchmarks.anomalies             # about half an hour; --seeds 1 for a look

One class is normal, the others are anomalies; each class is the normal one in turn (of the breast
cancer data the benign one alone). Of the normal examples 60 % are trained on and 10 % validate; the
others and all anomalies are the test split, on which the area under the ROC curve is taken. All
detectors get the same training split (PyOD's the validation split, too, which they have no other
use for) and keep their defaults. Nothing is chosen by the test split.
"""

import argparse
import os
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn import datasets
from sklearn.metrics import roc_auc_score

import aecli

Detector = Callable[[np.ndarray, np.ndarray, int], dict[str, np.ndarray]]
"""Takes all examples, their splits and a seed; returns scores of the test split by their name."""
NORMAL = {"breast_cancer": [1], "digits": list(range(10)), "wine": [0, 1, 2], "iris": [0, 1, 2]}
"""Of each data set the classes that are normal, one at a time."""


def split_of(labels: np.ndarray, normal: int, seed: int) -> np.ndarray:
    """Return the name of the split of each example."""
    own = np.random.default_rng(seed).permutation(np.flatnonzero(labels == normal))
    split = np.full(len(labels), "test", dtype=object)
    split[own[: len(own) * 6 // 10]] = "train"
    split[own[len(own) * 6 // 10 : len(own) * 7 // 10]] = "validation"
    return split


def of_aecli(model: str, *kinds: str) -> Detector:
    """Return a detector: `aecli train` on a table, then the scores of its test rows."""

    def scores(x: np.ndarray, split: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        table = pd.DataFrame(x, columns=[f"x{number}" for number in range(x.shape[1])])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "table.csv")
            table.assign(part=split).to_csv(file, index=False)
            run = aecli.train(
                f"model={model}",
                "dataset=table",
                f"dataset.file={file}",
                "dataset.split=part",
                f"seed={seed}",
                f"output_dir={folder}/runs",
                "pictures_every=0",
            )
            test = table[split == "test"]
            return {f"{model}, {kind}": run.score(test, kind=kind).to_numpy() for kind in kinds}

    return scores


def of_pyod(name: str, build: Callable[[int], Any]) -> Detector:
    """Return a detector of PyOD."""

    def scores(x: np.ndarray, split: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        fitted = build(seed).fit(x[split != "test"])
        return {f"PyOD {name}": fitted.decision_function(x[split == "test"])}

    return scores


def detectors() -> list[Detector]:
    """Return the detectors."""
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.pca import PCA

    return [
        of_aecli("ae", "mse", "mahalanobis"),
        of_aecli("vae", "elbo"),
        of_aecli("pca", "mse", "mahalanobis"),
        of_pyod("AutoEncoder", lambda seed: AutoEncoder(random_state=seed, verbose=0)),
        of_pyod("PCA", lambda seed: PCA(random_state=seed)),
    ]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="*", default=list(NORMAL))
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")  # PyOD's own, on every fit
    found: dict[str, dict[str, list[float]]] = {}
    for name in asked.sets:
        x, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
        areas = found[name] = defaultdict(list)
        for seed in range(asked.seeds):
            by_class = defaultdict(list)
            for normal in NORMAL[name]:
                split = split_of(labels, normal, seed)
                anomalous = labels[split == "test"] != normal
                for detector in detectors():
                    for kind, scores in detector(x, split, seed).items():
                        by_class[kind].append(roc_auc_score(anomalous, scores))
            for kind, values in by_class.items():
                areas[kind].append(mean(values))
        print(name, dict(areas), flush=True)  # noqa: T201
    kinds = list(next(iter(found.values())))
    table = Table("", *found, "mean", title=f"AUROC, mean ± deviation of {asked.seeds} seeds")
    for kind in kinds:
        cells = [_cell(areas[kind]) for areas in found.values()]
        table.add_row(kind, *cells, f"{mean(mean(areas[kind]) for areas in found.values()):.3f}")
    Console(width=None if os.isatty(1) else 120).print(table)


def _cell(values: list[float]) -> str:
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
