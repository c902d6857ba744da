"""A checksum over the contents of a checkpoint, quick enough to be taken each time one is read.

zlib's CRC-32 and SHA-256 take longer than torch takes to read the file. Here the bytes of each
tensor are added up in blocks, as 64-bit words modulo 2⁶⁴, at the speed of the memory; the sums and
everything that is no tensor go through SHA-256. A changed bit always changes a block's sum;
bytes that a disk has replaced by others keep it with a probability of 2⁻⁶⁴. It finds damage, not
malice: whoever changes a checkpoint can write the sum anew.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from aecli.errors import SettingError

BLOCK = 4096
"""64-bit words that are added up."""
MOST_PARTS, MOST_DEPTH = 300_000, 60
"""Of a checkpoint: dicts, lists, numbers and tensors, and how deep they are nested."""


def checksum(contents: Any, most_bytes: float = math.inf) -> str:
    """Return the sum over dicts, lists, tuples, plain values and tensors, as hexadecimal digits.

    Raises `SettingError` as `check_unfolded` does.
    """
    total = hashlib.sha256()
    for piece in _pieces(contents, most_bytes):
        total.update(piece.encode() if isinstance(piece, str) else _sums(piece))
    return total.hexdigest()


def check_unfolded(contents: Any, most_bytes: float) -> None:
    """Refuse contents that unfold to more than any checkpoint of `most_bytes`.

    Raises `SettingError` for more bytes of tensors, and for more parts than a checkpoint has.
    """
    for _ in _pieces(contents, most_bytes):
        pass


def _pieces(contents: Any, most_bytes: float) -> Iterator[str | Tensor]:
    """Yield what contents are, as texts and, behind that of its own, each tensor."""
    parts, size = 0, 0.0

    def pieces(node: Any, depth: int) -> Iterator[str | Tensor]:
        nonlocal parts, size
        parts += 1
        if parts > MOST_PARTS or depth > MOST_DEPTH:
            raise SettingError("it unfolds to more than any checkpoint holds")
        if isinstance(node, dict):
            yield f"dict {len(node)};"
            for name, value in node.items():
                yield f"{type(name).__name__} {name!r};"
                yield from pieces(value, depth + 1)
        elif isinstance(node, list | tuple):
            yield f"{type(node).__name__} {len(node)};"
            for value in node:
                yield from pieces(value, depth + 1)
        elif isinstance(node, Tensor):
            size += node.numel() * node.element_size()
            # Twice: tied weights are one block of the file, and two tensors of the state.
            if size > 2 * most_bytes or node.layout != torch.strided:
                raise SettingError("its tensors unfold to more bytes than it has")
            yield f"{node.dtype} {tuple(node.shape)};"
            yield node
        else:
            yield f"{type(node).__name__} {node!r};"

    yield from pieces(contents, 0)


def _sums(tensor: Tensor) -> bytes:
    """Return the sums of the blocks of a tensor's bytes, and the bytes that fill no block."""
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    whole = len(data) // (8 * BLOCK) * 8 * BLOCK
    # Viewed by NumPy, which takes any address; added by torch, which takes all cores, and lets
    # 64-bit words overflow as unsigned ones do.
    words = torch.from_numpy(data[:whole].view("int64")).view(-1, BLOCK)
    return words.sum(dim=1).numpy().tobytes() + data[whole:].tobytes()
