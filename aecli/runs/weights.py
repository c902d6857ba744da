"""The weights of a run as a folder that any program reads: no pickle, no checkpoint of Lightning's.

model.safetensors   the weights, and the tensors of the data card as `card.0`, `card.1`, …
config.json         the configuration, the chosen options and the version of aecli
card.json           the data card: its kind and its state, {"tensor": "card.0"} for a tensor
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from torch import Tensor

from aecli.build import build
from aecli.data import Card
from aecli.data.records import card_of
from aecli.models import Autoencoder
from aecli.runs.checkpoint import check_weights, pack
from aecli.runs.load import Loaded
from aecli.untrusted import read_json

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "card.json"
TENSOR = "tensor"


class Rebuilt(NamedTuple):
    """What a folder holds."""

    model: Autoencoder
    """In evaluation mode, on the CPU."""
    card: Card


def write_folder(loaded: Loaded, folder: Path) -> None:
    """Write the three files of a run into an empty folder."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    state = _without(loaded.card.state(), tensors)
    # Tied layers share their weights in memory, which safetensors does not know.
    weights = {name: one.clone().contiguous() for name, one in loaded.model.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(weights | tensors))
    packed = pack(loaded.config, loaded.choices)
    config = {key: packed[key] for key in ("version", "choices", "config")}
    (folder / CONFIG).write_text(json.dumps(config, indent=1))
    card = {"kind": loaded.card.kind, "state": state}
    (folder / CARD).write_text(json.dumps(card, indent=1))


def read_folder(folder: Path) -> Rebuilt:
    """Return the model and the data card of a folder that `write_folder` made.

    Nothing in it is run. Raises `SettingError` for weights that are not those of its model.
    """
    from safetensors.torch import load_file

    tensors = load_file(folder / WEIGHTS)
    card = read_json(folder / CARD)
    names = [name for name in tensors if name.startswith("card.")]
    state = _with(card["state"], {name: tensors.pop(name) for name in names})
    model = build(OmegaConf.create(read_json(folder / CONFIG)["config"]), "model")
    check_weights(model, tensors, f"{folder}")
    model.load_state_dict(tensors)
    return Rebuilt(model.eval().requires_grad_(False), card_of(card["kind"], state))


def _without(node: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a state with names in the place of its tensors, which go into `tensors`."""
    if isinstance(node, Mapping):
        return {str(key): _without(value, tensors) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_without(value, tensors) for value in node]
    if not isinstance(node, Tensor):
        return node
    name = f"card.{len(tensors)}"
    tensors[name] = node.cpu().clone().contiguous()
    return {TENSOR: name}


def _with(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, dict) and node.keys() == {TENSOR}:
        return tensors[node[TENSOR]]
    if isinstance(node, dict):
        return {key: _with(value, tensors) for key, value in node.items()}
    return [_with(value, tensors) for value in node] if isinstance(node, list) else node
