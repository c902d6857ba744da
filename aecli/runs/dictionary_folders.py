"""A dictionary as a folder that SAELens or sparsify loads.

    saelens    cfg.json, sae_weights.safetensors   SAE.load_from_disk, of SAELens from 6 on
    sparsify   cfg.json, sae.safetensors           SparseCoder.load_from_disk, of EleutherAI's

What the data card does is in the weights: the folder takes rows v in the user's units and gives v̂
in them, and its codes are those of the run. With x = (v − shift) / scale and
b = b_dec · scale + shift,

    (x − b_dec) W_encᵀ = (v − b) (W_enc / scale)ᵀ,    v̂ = x̂ · scale + shift = z (W_dec · scale) + b.

A transcoder subtracts nothing from v in both tools: with the shift and the scale of the rows on the
left, and those of the targets on the right,

    (x − c) W_encᵀ + b_enc = v (W_enc / scale)ᵀ + (b_enc − (c + shift / scale) W_encᵀ).
"""

import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aecli import __version__
from aecli.data import ArrayCard, Card, TargetCard
from aecli.data.records import Scaled
from aecli.dictionaries import BatchTopK, Gated, JumpReLU, NormL1, TopK
from aecli.errors import SettingError
from aecli.models import Dictionary

CONFIG = "cfg.json"
SAELENS_VERSION = "6.0.0"
"""Of the form of what is written; without it SAELens takes a folder for one of its version 5."""


class Folded(NamedTuple):
    """The weights of a dictionary on rows in the user's units, float32."""

    W_enc: Tensor
    """`(n, d)`."""
    W_dec: Tensor
    """`(n, d)`, of a transcoder `(n, e)`."""
    b_enc: Tensor
    """`(n,)`."""
    b_dec: Tensor
    """`(d,)`, or `(e,)`."""
    transcodes: bool
    """Whether b_dec is not subtracted from the rows."""


class Contents(NamedTuple):
    """What is written into a folder."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


class Coded(NamedTuple):
    """What a folder makes of rows."""

    code: Tensor
    """`(B, n)`."""
    output: Tensor
    """`(B, d)`."""


class Form(NamedTuple):
    """A tool's kind of folder."""

    weights: str
    """The file of the weights."""
    contents: Callable[[Dictionary, Folded], Contents]
    apply: Callable[[Contents, Tensor], Coded]
    """What the tool computes of rows `(B, d)`, by its formulas."""

    @property
    def files(self) -> tuple[str, str]:
        """The names of all files of the folder."""
        return CONFIG, self.weights


class Units(NamedTuple):
    """x = (v − shift) / scale of values v in the user's units; float64, `()` or `(*S)`."""

    shift: Tensor
    scale: Tensor


def units(card: Card) -> tuple[Units, Units]:
    """Return the units of what a model takes, and of what it makes.

    Raises `SettingError` for data that becomes numbers in another way.
    """
    if isinstance(card, TargetCard):
        return _units(card.inputs), _units(card.targets)
    return _units(card), _units(card)


def _units(card: Card) -> Units:
    if isinstance(card, ArrayCard):
        return Units(card.shift.double(), card.scale.double())
    if isinstance(card, Scaled):
        return Units(torch.zeros(()).double(), torch.tensor(card.scale).double())
    raise SettingError(
        "format: the data of the run is no array of numbers, so that its scaling cannot become part"
        " of the weights"
    )


def users_order(card: Card) -> Tensor:
    """Return which of a model's numbers, flattened, stands at each place of a user's row, `(D,)`.

    An image is made of its channels here, and may have them last there.
    """
    numbers = torch.arange(prod(card.shape)).view(1, *card.shape)
    return (card.laid_out(numbers) if isinstance(card, ArrayCard) else numbers).flatten()


def folded(model: Dictionary, card: Card) -> Folded:
    """Return the weights of a dictionary with the data card in them, in the user's order."""
    taken, made = units(card)
    shift, scale = (t.expand(model.shape).flatten() for t in taken)
    made_shift, made_scale = (t.expand(model.made_shape).flatten() for t in made)
    b_enc = model.b_enc.double()
    if model.center is not None:
        b_enc = b_enc - model.W_enc.double() @ (model.center + shift / scale)
    weights = (
        model.W_enc.double() / scale,
        model.W_dec.double() * made_scale,
        b_enc,
        model.b_dec.double() * made_scale + made_shift,
    )
    W_enc, W_dec, b_enc, b_dec = (weight.float().contiguous() for weight in weights)  # noqa: N806
    if model.made_shape == model.shape:
        order = users_order(card)
        W_enc, W_dec, b_dec = W_enc[:, order], W_dec[:, order], b_dec[order]  # noqa: N806
    return Folded(W_enc, W_dec, b_enc, b_dec, transcodes=model.center is not None)


def _saelens(model: Dictionary, weights: Folded) -> Contents:
    """Return a folder of SAELens's: its architecture topk, jumprelu, gated or standard.

    Of a transcoder jumprelu_transcoder or transcoder.
    """
    latents, features = weights.W_enc.shape
    architecture, settings, own = _architecture(model, weights.b_enc)
    if weights.transcodes:
        architecture = _of_transcoder(architecture, weights)
        settings = {**settings, "d_out": weights.W_dec.shape[1]}
    config = {
        "architecture": architecture,
        "d_in": features,
        "d_sae": latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": not weights.transcodes,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **settings,
        "metadata": {"sae_lens_version": SAELENS_VERSION, "aecli_version": __version__},
    }
    tensors = {
        "W_enc": weights.W_enc.T.contiguous(),
        "W_dec": weights.W_dec,
        "b_dec": weights.b_dec,
        **{name: tensor.float().clone().contiguous() for name, tensor in own.items()},
    }
    return Contents(config, tensors)


def _architecture(model: Dictionary, bias: Tensor) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Return SAELens's name of what a part does, and the settings and tensors that go with it."""
    match part := model.sparsity:
        case BatchTopK() | JumpReLU():
            # At inference, one threshold for all latents or one for each.
            threshold = part.threshold.expand(model.code_dim)
            return "jumprelu", {}, {"b_enc": bias, "threshold": threshold}
        case TopK():
            settings = {"k": part.k, "rescale_acts_by_decoder_norm": False}
            return "topk", settings, {"b_enc": bias}
        case Gated():
            own = {"b_gate": bias, "r_mag": part.r_mag, "b_mag": part.b_mag}
            return "gated", {}, own
        case NormL1():
            return "standard", {}, {"b_enc": bias}
    raise SettingError(
        f"format=saelens: has no architecture for {type(part).__name__}; it has those of top-k,"
        " batch top-k, Matryoshka, JumpReLU, gated and L1 dictionaries"
    )


def _of_transcoder(architecture: str, weights: Folded) -> str:
    """Return SAELens's name of the transcoder that activates as an architecture does."""
    names = {"standard": "transcoder", "jumprelu": "jumprelu_transcoder"}
    if architecture not in names:
        fits = architecture == "topk" and weights.W_enc.shape == weights.W_dec.shape
        instead = "format=sparsify" if fits else "out=model.safetensors"
        raise SettingError(
            f"format=saelens: has no {architecture} transcoder, only those of ReLU and JumpReLU"
            f" (batch top-k, Matryoshka, JumpReLU and L1 dictionaries); use {instead}"
        )
    return names[architecture]


def _sparsify(model: Dictionary, weights: Folded) -> Contents:
    """Return a folder of sparsify's, which has top-k alone."""
    part = model.sparsity
    if not isinstance(part, TopK) or isinstance(part, BatchTopK):
        raise SettingError(
            f"format=sparsify: has top-k dictionaries only (model=topk_sae), and this one is of"
            f" {type(part).__name__}; use format=saelens"
        )
    latents, features = weights.W_enc.shape
    if weights.W_dec.shape[1] != features:
        raise SettingError(
            f"format=sparsify: its transcoders make as many numbers as they take, and this one"
            f" takes {features} and makes {weights.W_dec.shape[1]}; use out=model.safetensors"
        )
    norms = torch.linalg.vector_norm(weights.W_dec, dim=1)
    config = {
        "activation": "topk",
        "num_latents": latents,
        "k": part.k,
        "d_in": features,
        # Whether a training there would set the atoms to norm 1: not those of scaled data.
        "normalize_decoder": bool((norms - 1).abs().max() < 1e-4),
        "multi_topk": False,
        "skip_connection": False,
        "transcode": weights.transcodes,
    }
    tensors = {
        "encoder.weight": weights.W_enc,
        "encoder.bias": weights.b_enc,
        "W_dec": weights.W_dec,
        "b_dec": weights.b_dec,
    }
    return Contents(config, tensors)


def _apply_saelens(contents: Contents, rows: Tensor) -> Coded:
    config, t = contents
    around = rows - t["b_dec"] if config["apply_b_dec_to_input"] else rows
    match config["architecture"]:
        case "gated":
            gate = around @ t["W_enc"] + t["b_gate"]
            size = around @ (t["W_enc"] * t["r_mag"].exp()) + t["b_mag"]
            code = (gate > 0) * size.relu()
        case "topk":
            a = around @ t["W_enc"] + t["b_enc"]
            code = _largest(a, config["k"])
        case _:
            a = around @ t["W_enc"] + t["b_enc"]
            code = a.relu() * (a > t["threshold"] if "threshold" in t else 1)
    return Coded(code, code @ t["W_dec"] + t["b_dec"])


def _apply_sparsify(contents: Contents, rows: Tensor) -> Coded:
    config, t = contents
    around = rows if config["transcode"] else rows - t["b_dec"]
    a = around @ t["encoder.weight"].T + t["encoder.bias"]
    code = _largest(a, config["k"])
    return Coded(code, code @ t["W_dec"] + t["b_dec"])


def _largest(a: Tensor, k: int) -> Tensor:
    values, index = a.topk(k, dim=1)
    return torch.zeros_like(a).scatter(1, index, values.relu())


FORMS = {
    "saelens": Form("sae_weights.safetensors", _saelens, _apply_saelens),
    "sparsify": Form("sae.safetensors", _sparsify, _apply_sparsify),
}


def write_dictionary(form: Form, contents: Contents, folder: Path) -> None:
    """Write the two files into an empty folder."""
    from safetensors.torch import save

    (folder / form.weights).write_bytes(save(contents.tensors, {"format": "pt"}))
    (folder / CONFIG).write_text(json.dumps(contents.config, indent=1))


def read_dictionary(form: Form, folder: Path) -> Callable[[Tensor], Coded]:
    """Return what a folder makes of rows `(B, d)`, by the formulas of the tool that it is for."""
    from safetensors.torch import load_file

    config = json.loads((folder / CONFIG).read_text())
    contents = Contents(config, load_file(folder / form.weights))
    return lambda rows: form.apply(contents, rows)
