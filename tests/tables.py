"""Runs on small tables."""

from pathlib import Path

from pandas import DataFrame

from tests.commandline import aecli

OWN = ("dataset=table", "dataset.file=t.csv", "dataset.split=part", "dataset.missing=mask")
SMALL = ("network.hidden=[4]", "model.code_dim=2", "trainer.max_epochs=1", "pictures_every=0")


def train_on(table: DataFrame, rows: int, folder: Path) -> None:
    """Train a VAE in `folder`/run on the first rows of a table; the others are its test split."""
    parts = ["train" if row < rows else "test" for row in range(len(table))]
    table.assign(part=parts).to_csv(folder / "t.csv", index=False)
    done = aecli("train", "model=vae", *OWN, *SMALL, "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
