"""A network as a list of operations that the page computes in JavaScript.

`page/network.js` has the same operations by the same names. What is not among them (a network of a
plugin, a residual one) is shown by decodings that are made beforehand, see `grids`.
"""

import math
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from aecli.errors import SettingError
from aecli.networks import TiedLinear
from aecli.sparsity import KL, L1, Lifetime, Sigmoid, Sparsity, TopK

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.GELU: "gelu",
    nn.ELU: "elu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Softplus: "softplus",
    nn.GLU: "gated",
}
OF_SPARSITY: dict[type[Sparsity], str] = {
    L1: "relu",
    Lifetime: "relu",
    Sigmoid: "sigmoid",
    KL: "sigmoid",
}


class Untranslatable(Exception):  # noqa: N818 (no error: there are decodings made beforehand)
    """A part that the page cannot compute: its message names it."""


class Operation(NamedTuple):
    """A step of a network; an example is one flat vector to it."""

    name: str
    settings: dict[str, Any]
    """Plain numbers: sizes, and the like."""
    weights: dict[str, Tensor]


def operations(network: nn.Module, shape: Sequence[int]) -> list[Operation]:
    """Return what a network does with examples of a `shape`, outside training.

    Raises `Untranslatable` if it has a module that is none of `aecli.networks.MLP` and `Conv`.
    """
    found: list[Operation] = []
    for module in network.children():
        kind = type(module)
        if kind in (nn.Flatten, nn.Unflatten):
            shape = module.unflattened_size if isinstance(module, nn.Unflatten) else [prod(shape)]
        elif isinstance(module, nn.Linear) and kind is nn.Linear:
            found.append(Operation("linear", {}, {"weight": module.weight, "bias": module.bias}))
        elif isinstance(module, TiedLinear) and kind is TiedLinear:
            weights = {"weight": module.weight[: module.inputs], "bias": module.bias}
            found.append(Operation("transposed_linear", {}, weights))
        elif isinstance(module, nn.BatchNorm1d) and kind is nn.BatchNorm1d and found:
            found.append(_folded(found.pop(), module))
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and kind in CONVOLUTIONS:
            found.append(_convolution(module, shape))
            shape = found[-1].settings["to"]
        elif kind in ACTIVATIONS and _is_plain(module):
            found.append(Operation(ACTIVATIONS[kind], {}, {}))
        else:
            raise Untranslatable(kind.__name__)
    return found


CONVOLUTIONS: dict[type[nn.Module], str] = {
    nn.Conv2d: "convolution",
    nn.ConvTranspose2d: "transposed_convolution",
}


def sparsity_operations(sparsity: Sparsity) -> list[Operation]:
    """Return what a sparsity does outside training; raise `Untranslatable` for a plugin's."""
    if sparsity.is_none:
        return []
    if isinstance(sparsity, TopK) and type(sparsity) is TopK:
        kept = min(round(sparsity.alpha * sparsity.k), sparsity.units)
        told = {"k": kept, "by": sparsity.by, "trained": sparsity.k}
        return [Operation("largest", told, {})]
    if type(sparsity) in OF_SPARSITY:
        return [Operation(OF_SPARSITY[type(sparsity)], {}, {})]
    raise Untranslatable(type(sparsity).__name__)


def compute(steps: Sequence[Operation], x: Tensor) -> Tensor:
    """Return what `steps` make of vectors x `(B, D)`, `(B, D')`: the page's reference."""
    for name, settings, weights in steps:
        x = _compute(name, settings, weights, x)
    return x


def _compute(name: str, settings: dict[str, Any], weights: dict[str, Tensor], x: Tensor) -> Tensor:
    if name == "linear":
        return F.linear(x, weights["weight"], weights["bias"])
    if name == "transposed_linear":
        return F.linear(x, weights["weight"].T, weights["bias"])
    if name in CONVOLUTIONS.values():
        images, filters, bias = x.unflatten(1, settings["from"]), weights["weight"], weights["bias"]
        how = {"stride": settings["stride"], "padding": settings["padding"]}
        if name == "convolution":
            return F.conv2d(images, filters, bias, **how).flatten(1)
        size = settings["to"][1:]
        lacking = [
            wanted - ((side - 1) * how["stride"] - 2 * how["padding"] + filters.shape[-1])
            for wanted, side in zip(size, settings["from"][1:], strict=True)
        ]
        made = F.conv_transpose2d(images, filters, bias, output_padding=lacking, **how)
        return made.flatten(1)
    if name == "largest":
        rank = x.abs() if settings["by"] == "magnitude" else x
        kept = rank.topk(settings["k"], dim=1).indices
        return torch.zeros_like(x).scatter(1, kept, x.gather(1, kept))
    if name == "gated":
        return F.glu(x, dim=1)
    return getattr(torch if name in ("relu", "tanh", "sigmoid") else F, name)(x)


def rounded(weight: Tensor) -> tuple[Tensor, float]:
    """Return a weight as the page keeps it: float16 `h` and a factor `s`, so that it is s · h.

    The factor brings the largest to 1, so that float16 neither overflows nor loses small networks.
    """
    largest = float(weight.abs().max()) or 1.0
    if not math.isfinite(largest):
        raise SettingError("the run's weights are not finite numbers")
    return (weight / largest).half(), largest


def as_kept(steps: Sequence[Operation]) -> list[Operation]:
    """Return the same operations with the weights that the page has: matrices are rounded."""

    def kept(weight: Tensor) -> Tensor:
        if weight.dim() < 2:
            return weight
        half, factor = rounded(weight)
        return half.float() * factor

    return [
        Operation(name, settings, {key: kept(weight) for key, weight in weights.items()})
        for name, settings, weights in steps
    ]


def _is_plain(module: nn.Module) -> bool:
    """Return whether an activation is as `aecli.networks` makes it."""
    settings = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    usual: dict[str, Any] = {
        "training": False, "inplace": False, "approximate": "none", "alpha": 1.0,
        "beta": 1.0, "threshold": 20.0, "dim": 1,
    }  # fmt: skip
    return all(usual.get(key, value) == value for key, value in settings.items())


def _folded(layer: Operation, norm: nn.BatchNorm1d) -> Operation:
    """Return a layer that normalizes as well: γ (W x + b − μ) / √(σ² + ε) + β is one layer."""
    if layer.name not in ("linear", "transposed_linear") or norm.running_mean is None:
        raise Untranslatable("BatchNorm1d")
    assert norm.running_var is not None
    weight, bias = layer.weights["weight"], layer.weights["bias"]
    weight = weight if layer.name == "linear" else weight.T
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias = (bias - norm.running_mean) * factor + norm.bias
    return Operation("linear", {}, {"weight": weight * factor[:, None], "bias": bias})


def _convolution(layer: nn.Conv2d | nn.ConvTranspose2d, shape: Sequence[int]) -> Operation:
    """Return a convolution of square filters, the same in both directions."""
    stride, padding = layer.stride, layer.padding
    is_square = layer.kernel_size[0] == layer.kernel_size[1] and stride[0] == stride[1]
    is_usual = layer.dilation == (1, 1) and layer.groups == 1 and layer.padding_mode == "zeros"
    if not (is_square and is_usual and padding == (padding[0],) * 2 and layer.bias is not None):
        raise Untranslatable(type(layer).__name__)
    with torch.no_grad():
        to = list(layer(layer.weight.new_zeros(1, *shape)).shape[1:])
    settings = {"from": list(shape), "to": to, "stride": stride[0], "padding": padding[0]}
    weights = {"weight": layer.weight, "bias": layer.bias}
    return Operation(CONVOLUTIONS[type(layer)], settings, weights)
