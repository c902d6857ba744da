"""Made-up results, runs and outcomes for the tests of docs/reproductions.md."""

import json

from omegaconf import OmegaConf
from torch.utils.tensorboard import SummaryWriter

from aecli.runs.paths import CONFIG, LAST, METRICS, checkpoint_path
from benchmarks.reproductions.outcomes import Outcome
from benchmarks.reproductions.results import result_path
from tests.conftest import configure


def published(metric="finetune_accuracy", value=97.6, goal=97.6):
    return {"metric": metric, "value": value, "goal": goal, "evidence": "read"}


def result(here, seed=0, interval=None, **values):
    """Return what a result's file holds, as far as the page needs it."""
    return {
        "seed": seed, "here": here, "interval": interval, "changed": [], "test": {}, "epochs": 5,
        "seconds": {"pretraining": None, "training": 100.0, "evaluation": 20.0},
        "versions": {"aecli": "0", "torch": "2", "python": "3"}, "date": "2026-01-01",
        "device": "cpu", "processor": "Z80", "threads": 1, "settings": {}, **values,
    }  # fmt: skip


def outcome(*runs, name="a/b", seeds=None, other_settings="", **of_published):
    return Outcome(name, published(**of_published), seeds or len(runs), runs, other_settings)


def keep(results, name, seed, here, settings, **values):
    """Write a result's file."""
    path = result_path(results, name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result(here, seed, settings=settings, **values)))


def run(folder, name, *overrides, date="2026-01-01", ended=True, epochs=3):
    """Make the files of a run of an experiment as `aecli train` leaves them, and return it."""
    run = folder / "pca-mnist" / date
    (run / CONFIG).parent.mkdir(parents=True)
    config, _ = configure(f"experiment={name}", f"output_dir={folder}", *overrides)
    OmegaConf.save(config, run / CONFIG)
    last = checkpoint_path(run, LAST)
    last.parent.mkdir()
    last.touch()
    with SummaryWriter(str(run)) as events:
        for epoch in range(epochs):
            for _ in range(1 + (epoch == 1)):  # a run that was killed repeats what it said last
                events.add_scalar("epoch", epoch, 10 * (epoch + 1) - 1)
                events.add_scalar("val/loss", 100 / (epoch + 1), 10 * (epoch + 1) - 1)
    made = {"version": "0.4.0", "torch": "2", "python": "3.11", "processor": "Z80", "threads": 1}
    made |= {"device": "cpu", "precision": "32-true", "date": date, "parameters": 9, "epochs": 3}
    made |= {"best_epoch": 3, "train_seconds": 9.5, "pretrain_seconds": 2.0, "val": {"loss": 33.3}}
    settings = {"checkpoint": "best.ckpt", "seed": 0, "seconds": 4.0, "settings": {"noise": "none"}}
    experiment = {"metric": "sse", "here": 13.9, "interval": None}
    experiment["changed"] = [o for o in overrides if not o.startswith("seed")]
    if ended:
        made |= {"test": {**settings, "sse": 13.9}, "experiment": experiment}
        (run / METRICS).write_text(json.dumps(made))
    return run
