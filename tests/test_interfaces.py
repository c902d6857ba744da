"""The private interfaces of other libraries: each is known, and is still where it was.

A test that fails here names the interface that moved. pyproject.toml bounds the versions of these
libraries above; raising a bound starts with this file. `docs/design.md` lists what each is for.
"""

import ast
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def trainer():
    from lightning.pytorch import Trainer

    return Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )


def epoch_loop():
    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

    names = ("advance", "on_run_start", "on_advance_end", "update_lr_schedulers")
    arguments = list(inspect.signature(_TrainingEpochLoop.__init__).parameters)
    return arguments[1:4] == ["trainer", "min_steps", "max_steps"] and all(
        hasattr(_TrainingEpochLoop, name) for name in (*names, "_num_ready_batches_reached")
    )


def counts_of_the_epoch_loop():
    loop = trainer().fit_loop.epoch_loop
    return (
        loop._batches_that_stepped == 0
        and loop.automatic_optimization.optim_progress.optimizer.step.total.ready == 0
        and loop.batch_progress.is_last_batch is False
    )


def data_fetcher():
    from lightning.pytorch.loops.fetchers import _DataFetcher

    return "done" in _DataFetcher().__dict__ and hasattr(_DataFetcher, "__next__")


def get_mode():
    from hydra._internal.hydra import Hydra

    return list(inspect.signature(Hydra.get_mode).parameters)[:1] == ["self"]


def group_options():
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    names = ["self", "group_name", "results_filter"]
    return list(inspect.signature(ConfigLoaderImpl.get_group_options).parameters)[:3] == names


def hparams_triple():
    from torch.utils.tensorboard.summary import hparams

    experiment, start, end = hparams({"lr": 1.0}, {})
    tags = [summary.value[0].tag for summary in (experiment, start, end)]
    names = ("experiment", "session_start_info", "session_end_info")
    return tags == [f"_hparams_/{name}" for name in names]


def heartbeat():
    from optuna.storages import RDBStorage, fail_stale_trials

    wanted = {"heartbeat_interval", "grace_period", "heartbeat_stale_trial_callback"}
    known = inspect.signature(RDBStorage.__init__).parameters
    return callable(fail_stale_trials) and wanted <= known.keys() and RDBStorage.record_heartbeat


def trial_id():
    from optuna import create_study
    from optuna.trial import Trial

    study = create_study()
    study.ask()
    trial = study.get_trials(deepcopy=False)[0]
    return Trial(study, trial._trial_id).number == 0 and study._storage


def watcher():
    from submitit import SlurmJob
    from submitit.slurm.slurm import SlurmInfoWatcher

    made = SlurmInfoWatcher(delay_s=60)
    return (
        made._registered == set()
        and made._make_command() is None
        and made.read_info("") == {}
        and isinstance(SlurmJob.watcher, SlurmInfoWatcher)
    )


KNOWN = {
    "Hydra": get_mode,  # of hydra._internal: its get_mode composes the configuration once too often
    "ConfigLoaderImpl": group_options,
    "_DataFetcher": data_fetcher,
    "_TrainingEpochLoop": epoch_loop,
    "_num_ready_batches_reached": epoch_loop,
    "_batches_that_stepped": counts_of_the_epoch_loop,
    "_registered": watcher,
    "_storage": trial_id,
    "_trial_id": trial_id,
    # Without an underscore, and without documentation.
    "hparams": hparams_triple,
    "record_heartbeat": heartbeat,
}  # fmt: skip
"""What is used of other libraries' private parts, each with a test that it is there."""


def private_names(path: Path) -> set[str]:
    """Return the private names of other libraries that a module uses."""
    tree = ast.parse(path.read_text())
    ours = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if of_self and isinstance(node.ctx, ast.Store):
                ours.add(node.attr)
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("aecli"):
            hidden = "._" in f".{node.module}"
            found |= {a.name for a in node.names if hidden or a.name.startswith("_")}
    hidden = {name for name in found if name.startswith("_") and not name.startswith("__")}
    return (hidden | (found & KNOWN.keys())) - ours - {"_exit", "_replace"}  # documented


def test_every_private_interface_is_known():
    modules = [*(ROOT / "aecli").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")]
    used = {name: path.name for path in modules for name in private_names(path)}
    assert not used.keys() - KNOWN.keys(), used
    source = "".join(path.read_text() for path in modules)
    assert not [name for name in KNOWN if name not in source], "no longer used"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KNOWN)
def test_a_private_interface_is_where_it_was(name):
    assert KNOWN[name](), f"{name} has moved"
