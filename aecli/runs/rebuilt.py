"""The checked copy of a checkpoint that Lightning gets, rebuilt from what the run itself knows.

Lightning trusts a checkpoint. It removes the files that the states of the callbacks name, and
hands the optimizer's moments to kernels that do not look at their sizes. So a checkpoint is never
handed over: a fresh trainer, model and optimizer say which values there are, of which type and
shape, and only these are taken out of the file. Paths are those of the run's own directory.
"""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from aecli.errors import LARGEST, SettingError
from aecli.models import Autoencoder
from aecli.models.autoencoder import SUMS
from aecli.runs.checkpoint import check_weights
from aecli.runs.counters import check_counters
from aecli.text import first_line, one_line


def rebuilt(
    checkpoint: Mapping[str, Any], path: Path, trainer: pl.Trainer, epochs: int
) -> dict[str, Any]:
    """Return a checkpoint for Lightning that holds nothing but checked copies.

    To be called when the trainer has its model, before it has optimizers; `epochs` is how many it
    will train in all.
    Raises `SettingError` naming what is missing, of another type or shape, or out of range.
    """
    where = f"resume={one_line(path)}"
    model = cast(Autoencoder, trainer.lightning_module)
    check_weights(model, _item(checkpoint, "state_dict", where), where)
    optimizer, schedulers = _optimizer(model)
    loops = _item(checkpoint, "loops", where)
    states = _item(checkpoint, "optimizer_states", where)
    sums = _item(checkpoint, SUMS, where)
    rates = _item(checkpoint, "lr_schedulers", where)
    if not isinstance(states, list) or len(states) > 1 or (not states and rates != []):
        raise SettingError(f"{where}: optimizer_states: must be a list of one")
    moved = bool(schedulers)
    if not states:  # a run of no epochs has saved its weights without any optimizer
        schedulers = []
    taken: dict[str, Any] = {
        "epoch": like(0, _item(checkpoint, "epoch", where), f"{where}: epoch"),
        "global_step": like(0, _item(checkpoint, "global_step", where), f"{where}: global_step"),
        "pytorch-lightning_version": pl.__version__,
        "state_dict": {name: value.clone() for name, value in checkpoint["state_dict"].items()},
        "loops": {
            "fit_loop": like(
                trainer.fit_loop.state_dict(),
                _item(loops, "fit_loop", f"{where}: loops"),
                f"{where}: loops",
            )
        },
        "callbacks": _callbacks(trainer, _item(checkpoint, "callbacks", where), where),
        SUMS: _sums(model, sums, f"{where}: {SUMS}"),
        "optimizer_states": [
            _optimizer_state(model, optimizer, state, moved, f"{where}: optimizer_states")
            for state in states
        ],
        "lr_schedulers": like(
            [scheduler.state_dict() for scheduler in schedulers],
            rates,
            f"{where}: lr_schedulers",
        ),
    }
    fit_loop = taken["loops"]["fit_loop"]
    check_counters(fit_loop, taken["epoch"], taken["global_step"], epochs, where)
    precision = type(trainer.precision_plugin).__qualname__
    if known := trainer.precision_plugin.state_dict():
        found = _item(checkpoint, precision, where)
        taken[precision] = like(known, found, f"{where}: {precision}")
    return taken


def like(known: Any, found: Any, where: str) -> Any:
    """Return a copy of `found` if it is of the same build as `known`, else raise `SettingError`.

    The keys of dicts, the lengths of lists, the shapes and types of tensors and the types of
    numbers must be the same; integers in [0, 2³¹), other numbers finite. A text or None is never
    taken from `found`.
    """
    if isinstance(known, Mapping):
        if not isinstance(found, Mapping) or found.keys() != known.keys():
            raise SettingError(f"{where}: must have the keys {', '.join(map(str, known))}")
        return {name: like(value, found[name], f"{where}.{name}") for name, value in known.items()}
    if isinstance(known, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(known):
            raise SettingError(f"{where}: must be a list of {len(known)}")
        return type(known)(like(k, f, where) for k, f in zip(known, found, strict=True))
    if isinstance(known, Tensor):
        # That of a fresh start may be infinite: a best score before the first epoch has ended.
        is_open = bool(known.isinf().all()) and known.is_floating_point()
        return _tensor(found, known.shape, known.dtype, where, may_be_infinite=is_open)
    if isinstance(known, bool):
        if not isinstance(found, bool):
            raise SettingError(f"{where}: must be true or false")
        return found
    if isinstance(known, int):
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= LARGEST:
            raise SettingError(f"{where}={one_line(found)}: must be a whole number of at least 0")
        return found
    if isinstance(known, float):
        if not isinstance(found, int | float) or isinstance(found, bool) or abs(found) > 1e300:
            raise SettingError(f"{where}={one_line(found)}: must be a finite number")
        if math.isnan(found):
            raise SettingError(f"{where}={found}: must be a finite number")
        return float(found)
    return known


def _tensor(
    found: Any,
    shape: Sequence[int],
    dtype: torch.dtype,
    where: str,
    may_be_infinite: bool = False,
) -> Tensor:
    fits = isinstance(found, Tensor) and found.shape == torch.Size(shape) and found.dtype == dtype
    if not fits or found.layout != torch.strided:
        raise SettingError(f"{where}: must be a tensor of {dtype} of shape {tuple(shape)}")
    if found.isnan().any() or not (may_be_infinite or found.isfinite().all()):
        raise SettingError(f"{where}: is not finite")
    return found.clone(memory_format=torch.contiguous_format)


def _item(found: Any, key: str, where: str) -> Any:
    if not isinstance(found, Mapping) or key not in found:
        raise SettingError(f"{where}: has no {key}")
    return found[key]


def _optimizer(model: Autoencoder) -> tuple[Optimizer, list[Any]]:
    """Return an optimizer of the model, without a state, and its schedulers."""
    configured = model.configure_optimizers()
    if isinstance(configured, Optimizer):
        return configured, []
    return configured["optimizer"], [configured["lr_scheduler"]["scheduler"]]


def _optimizer_state(
    model: Autoencoder, optimizer: Optimizer, found: Any, moved: bool, where: str
) -> dict[str, Any]:
    """Return an optimizer's state: its settings are those of the configuration, not of the file.

    `moved` says whether a schedule moves the rate: if so, the rate is taken from the file.
    """
    known = optimizer.state_dict()
    groups = _item(found, "param_groups", where)
    if not isinstance(groups, list) or len(groups) != len(known["param_groups"]):
        raise SettingError(f"{where}: must have {len(known['param_groups'])} param_groups")
    for group, other in zip(known["param_groups"], groups, strict=True):
        if moved:
            group["lr"] = like(0.0, _item(other, "lr", where), f"{where}: lr")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states = _item(found, "state", where)
    pattern = {} if isinstance(optimizer, LBFGS) else _state_of_one(model)
    having = [number for number, parameter in enumerate(parameters) if parameter.requires_grad]
    if isinstance(optimizer, LBFGS):
        having = [0]  # all parameters are one to it
    elif not pattern:
        having = []
    if not isinstance(states, Mapping) or set(states) != set(having):
        raise SettingError(f"{where}: must have a state of each parameter that is trained")
    if isinstance(optimizer, LBFGS):
        taken = {0: _lbfgs_state(optimizer, states[0], where)}
    else:
        taken = {
            number: _state(pattern, states[number], parameters[number], f"{where}: {number}")
            for number in having
        }
    return {"state": taken, "param_groups": known["param_groups"]}


def _sums(model: Autoencoder, found: Any, where: str) -> list[dict[str, Any]]:
    """Return the sums of each process over an epoch that has not ended."""
    taken = []
    try:
        for state in found:
            parts = {name: deepcopy(part) for name, part in model.sums().items()}
            for name, part in parts.items():
                part.load(state[name], model.code_dim)
            taken.append({name: part.state() for name, part in parts.items()})
    except Exception as error:  # whatever a made-up state can raise
        raise SettingError(f"{where}: are no sums over an epoch ({first_line(error)})") from error
    if not taken:
        raise SettingError(f"{where}: are those of no process")
    return taken


SAMPLE = (2, 3)
"""The shape of a parameter that shows what state the optimizer keeps of each."""


def _state_of_one(model: Autoencoder) -> dict[str, Any]:
    """Return the state that the model's optimizer has of a parameter of shape `SAMPLE`."""
    parameter = nn.Parameter(torch.zeros(SAMPLE))
    parameter.grad = torch.zeros(SAMPLE)
    optimizer = model.optimization.optimizer([parameter])
    optimizer.step()
    return optimizer.state_dict()["state"].get(0, {})


def _state(pattern: dict[str, Any], found: Any, parameter: Tensor, where: str) -> dict[str, Any]:
    if not isinstance(found, Mapping) or found.keys() != pattern.keys():
        raise SettingError(f"{where}: must have the keys {', '.join(pattern)}")

    def of_parameter(name: str) -> Tensor:
        # Fused steps take the numbers of both as they lie in memory: so they must lie alike.
        value = _tensor(found[name], parameter.shape, parameter.dtype, f"{where}.{name}")
        return torch.empty_like(parameter, device="cpu").copy_(value)

    return {
        name: (
            of_parameter(name)
            if isinstance(known, Tensor) and known.shape == torch.Size(SAMPLE)
            else like(known, found[name], f"{where}.{name}")
        )
        for name, known in pattern.items()
    }


def _lbfgs_state(optimizer: LBFGS, state: Any, where: str) -> dict[str, Any]:
    """Return the state of `torch.optim.LBFGS`: all parameters are one vector, kept for a while."""
    (group,) = optimizer.param_groups
    size = (sum(p.numel() for p in group["params"]),)
    dtype, most = group["params"][0].dtype, group["history_size"]

    def vectors(name: str, shape: tuple[int, ...]) -> list[Tensor]:
        values = _item(state, name, where)
        if not isinstance(values, list) or len(values) > most:
            raise SettingError(f"{where}: {name} must be a list of at most {most}")
        return [_tensor(value, shape, dtype, f"{where}: {name}") for value in values]

    def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
        return _tensor(_item(state, name, where), shape, dtype, f"{where}: {name}")

    def number(name: str, known: float) -> Any:
        value = _item(state, name, where)
        return tensor(name, ()) if isinstance(value, Tensor) else like(known, value, where)

    counts = {name: number(name, 0) for name in ("func_evals", "n_iter")}
    if counts["n_iter"] == 0:  # it stopped at its start
        return counts
    taken = {
        **counts,
        "d": tensor("d", size),
        "t": number("t", 0.0),
        "old_dirs": vectors("old_dirs", size),
        "old_stps": vectors("old_stps", size),
        "ro": vectors("ro", ()),
        "H_diag": number("H_diag", 0.0),
        "prev_flat_grad": tensor("prev_flat_grad", size),
        "prev_loss": number("prev_loss", 0.0),
    }
    if len({len(taken[name]) for name in ("old_dirs", "old_stps", "ro")}) > 1:
        raise SettingError(f"{where}: its old_dirs, old_stps and ro differ in length")
    if "al" in state:
        taken["al"] = [None] * most  # scratch space, written before it is read
    return taken


def _callbacks(trainer: pl.Trainer, found: Any, where: str) -> dict[str, Any]:
    """Return the state of each callback of the trainer that has one.

    Those of aecli check what they load.
    """
    taken = {}
    for callback in cast(list[Callback], trainer.callbacks):  # type: ignore[attr-defined]
        known = callback.state_dict()
        if not known:
            continue
        name = f"{where}: callbacks: {type(callback).__name__}"
        state = _item(found, callback.state_key, f"{where}: callbacks")
        if isinstance(callback, ModelCheckpoint):
            taken[callback.state_key] = _files(callback, state, name)
        elif hasattr(callback, "checked"):
            taken[callback.state_key] = callback.checked(state, name)
        else:
            if isinstance(callback, Timer):  # it counts from 0 in whole seconds, then in parts
                known = {"time_elapsed": dict.fromkeys(known["time_elapsed"], 0.0)}
            taken[callback.state_key] = like(known, state, name)
    return taken


def _files(callback: ModelCheckpoint, found: Any, where: str) -> dict[str, Any]:
    """Return the state of a callback that keeps one file: the score is read, the paths are its own.

    Lightning removes the file at `best_model_path` when a better one is saved.
    """
    path = str(Path(callback.dirpath or "") / f"{callback.filename}.ckpt")
    known = dict(callback.state_dict(), best_model_path=path)
    score = _item(found, "best_model_score", where)
    if callback.monitor is None or score is None:
        return known
    score = like(torch.tensor(0.0), score, where)
    return known | {
        "best_model_score": score,
        "current_score": like(torch.tensor(0.0), _item(found, "current_score", where), where),
        "best_k_models": {path: score},
        "kth_best_model_path": path,
        "kth_value": score,
    }
