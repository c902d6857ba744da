"""Anomaly detection on labelled tables that come with scikit-learn, beside PyOD's detectors.

    python -m benchmarks.anomalies             # about half an hour; --seeds 1 for a look

One class is normal, the others are anomalies; each class is the normal one in turn (of the cells the
benign ones alone). Of the normal examples 60 % are trained on and 10 % validate; the others and all
anomalies are the test split, on which the area under the ROC curve is taken. All detectors get the
same training split (PyOD's the validation split, too, which they have no other use for) and keep
their defaults. Nothing is chosen by the test split.
"""

import argparse
import os
import tempfile
import warnings
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

NORMAL = {"breast_cancer": [1], "digits": list(range(10)), "wine": [0, 1, 2], "iris": [0, 1, 2]}
"""Of each data set the classes that are normal, one at a time."""


def split_of(labels: np.ndarray, normal: int, seed: int) -> np.ndarray:
    """Return the name of the split of each example."""
    own = np.random.default_rng(seed).permutation(np.flatnonzero(labels == normal))
    split = np.full(len(labels), "test", dtype=object)
    split[own[: len(own) * 6 // 10]] = "train"
    split[own[len(own) * 6 // 10 : len(own) * 7 // 10]] = "validation"
    return split


def of_aecli(model: str) -> Callable[..., np.ndarray]:
    """Return a detector: `aecli train` on a table, then the scores of its test rows."""

    def scores(x: np.ndarray, split: np.ndarray, seed: int) -> np.ndarray:
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
            return run.score(table[split == "test"]).to_numpy()

    return scores


def of_pyod(build: Callable[[int], Any]) -> Callable[..., np.ndarray]:
    """Return a detector of PyOD."""

    def scores(x: np.ndarray, split: np.ndarray, seed: int) -> np.ndarray:
        return build(seed).fit(x[split != "test"]).decision_function(x[split == "test"])

    return scores


def detectors() -> dict[str, Callable[..., np.ndarray]]:
    """Return the detectors by name."""
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.pca import PCA

    return {
        "ae": of_aecli("ae"),
        "vae": of_aecli("vae"),
        "pca": of_aecli("pca"),
        "PyOD AutoEncoder": of_pyod(lambda seed: AutoEncoder(random_state=seed, verbose=0)),
        "PyOD PCA": of_pyod(lambda seed: PCA(random_state=seed)),
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="*", default=list(NORMAL))
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")  # PyOD's own, on every fit
    kinds = detectors()
    table = Table("normal class of", *kinds)
    means: dict[str, list[float]] = {name: [] for name in kinds}
    for name in asked.sets:
        x, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
        cells = []
        for kind, scores in kinds.items():
            by_seed = []
            for seed in range(asked.seeds):
                values = []
                for normal in NORMAL[name]:
                    split = split_of(labels, normal, seed)
                    anomalous = labels[split == "test"] != normal
                    values.append(roc_auc_score(anomalous, scores(x, split, seed)))
                by_seed.append(mean(values))
            means[kind].append(mean(by_seed))
            spread = f" ± {stdev(by_seed):.3f}" if asked.seeds > 1 else ""
            cells.append(f"{mean(by_seed):.3f}{spread}")
            print(name, kind, cells[-1], flush=True)  # noqa: T201
        table.add_row(name, *cells)
    table.add_row("mean", *(f"{mean(values):.3f}" for values in means.values()))
    Console(width=None if os.isatty(1) else 120).print(table)


if __name__ == "__main__":
    main()
