"""A run's model as a graph that other programs run: raw values in, raw values out.

What the data card does (÷ 255, standardization, one-hot) is inside the graph, and the number of
examples is free. The encoder maps `x` to `code`, the decoder `code` to `reconstruction`, and all of
the model `x` to both. `x` are examples as `Card.given` says, `reconstruction` the mean of p(x|z) as
`Card.leaving` says: float32, not rounded.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from aecli import __version__
from aecli.data import Card
from aecli.errors import SettingError
from aecli.models import Autoencoder
from aecli.runs.load import Loaded
from aecli.text import first_line, installs

ABOUT = "aecli"
"""The name under which a file says what it is: a JSON text."""
LARGEST = 1 << 30
"""Bytes of weights in an .onnx file; protobuf ends at 2³¹."""


class Graph(nn.Module):
    """A part of a model with its data card around it."""

    takes: str
    gives: tuple[str, ...]
    unused: tuple[str, ...] = ("prior",)
    """What of the model the file shall not hold."""

    def __init__(self, model: Autoencoder, card: Card) -> None:
        super().__init__()
        model = deepcopy(model)
        for name in self.unused:
            if hasattr(model, name):
                delattr(model, name)
        self.model = model
        self.card = card


class Encoder(Graph):
    """`x` `(B, …)` → `code` `(B, K)`."""

    takes = "x"
    gives = ("code",)
    unused = ("decoder", "prior")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the code."""
        return (self.model.encode(self.card.entering(x)),)


class Decoder(Graph):
    """`code` `(B, K)` → `reconstruction` `(B, …)`."""

    takes = "code"
    gives = ("reconstruction",)
    unused = ("encoder", "prior")

    def forward(self, code: Tensor) -> tuple[Tensor, ...]:
        """Return the mean of p(x|z)."""
        return (self.card.leaving(self.model.decode(code).mean),)


class All(Graph):
    """`x` `(B, …)` → `code` `(B, K)` and `reconstruction` `(B, …)`."""

    takes = "x"
    gives = ("code", "reconstruction")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return both."""
        code = self.model.encode(self.card.entering(x))
        return code, self.card.leaving(self.model.decode(code).mean)


PARTS: dict[str, type[Graph]] = {"encoder": Encoder, "decoder": Decoder, "all": All}

Runs = Callable[[Tensor], list[Tensor]]
"""A graph in memory: its input to its outputs."""


class Format(NamedTuple):
    """A kind of file."""

    write: Callable[[ExportedProgram, Graph, str], bytes]
    """The bytes of a file with this graph and this text about it."""
    read: Callable[[bytes], Runs]
    """The graph in the bytes of a file."""


def traced(graph: Graph, example: Tensor) -> ExportedProgram:
    """Return the operations of a graph for any number of examples such as `example` `(B, …)`.

    Raises `SettingError` for a model that torch cannot trace, such as one with a part of one's own
    that decides by the values of a tensor.
    """
    batch = {graph.takes: {0: Dim("batch")}}
    if len(example) == 1:  # to torch a batch of one would be a model for one
        example = torch.cat([example, example])
    try:
        with quiet():
            return torch.export.export(graph.eval(), (example,), dynamic_shapes=batch)
    except Exception as error:  # whatever an operation can raise that torch knows no graph of
        raise SettingError(
            f"export: torch cannot trace this model ({first_line(error)})"
        ) from error


def about(loaded: Loaded, graph: Graph, example: Tensor) -> str:
    """Return what a file says about itself, as JSON: what it takes and gives, and its data card."""
    given = {
        name: list(one.shape[1:]) for name, one in zip(graph.gives, graph(example), strict=True)
    }
    taken = {"shape": list(example.shape[1:]), "type": str(example.dtype).removeprefix("torch.")}
    card = {"kind": loaded.card.kind, "state": as_lists(loaded.card.state())}
    return json.dumps(
        {
            "version": __version__,
            "choices": loaded.choices,
            "input": {"name": graph.takes, **taken},
            "outputs": given,
            "card": card,
        }
    )


def as_lists(node: Any) -> Any:
    """Return the state of a card with lists in the place of tensors."""
    if isinstance(node, Mapping):
        return {str(name): as_lists(value) for name, value in node.items()}
    if isinstance(node, list | tuple):
        return [as_lists(value) for value in node]
    return node.tolist() if isinstance(node, Tensor) else node


def _onnx(program: ExportedProgram, graph: Graph, text: str) -> bytes:
    size = sum(weight.nbytes for weight in program.state_dict.values())
    if size > LARGEST:
        raise SettingError(f"out: {size / 1e9:.1f} GB of weights are too much for .onnx; use .pt2")
    gives = list(graph.gives)
    with quiet():
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=[graph.takes], output_names=gives
        )
    assert made is not None, "no file was named"
    made.model.metadata_props[ABOUT] = text
    return made.model_proto.SerializeToString()


def _run_onnx(content: bytes) -> Runs:
    from onnxruntime import InferenceSession

    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    return lambda x: [torch.from_numpy(y) for y in session.run(None, {taken.name: x.numpy()})]


def _pt2(program: ExportedProgram, graph: Graph, text: str) -> bytes:
    file = io.BytesIO()
    with quiet():
        torch.export.save(program, file, extra_files={ABOUT: text})
    return file.getvalue()


def _run_pt2(content: bytes) -> Runs:
    with quiet():
        module = torch.export.load(io.BytesIO(content)).module()
    return lambda x: list(module(x))


FORMATS = {".onnx": Format(_onnx, _run_onnx), ".pt2": Format(_pt2, _run_pt2)}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch's exporters say about themselves from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def check_installed(ending: str) -> None:
    """Raise `SettingError` if a library is missing that writes or runs files of this kind."""
    needed = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".safetensors": ("safetensors",)}
    if missing := [name for name in needed.get(ending, ()) if find_spec(name) is None]:
        raise SettingError(
            f"out: {ending} needs {' and '.join(missing)}, not installed; {installs('export')}"
        )
