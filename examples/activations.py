"""The activations of a language model over text files, as shards for `dataset=activations`.

    pip install transformers gguf accelerate   # the last two for a .gguf file
    python examples/activations.py MODEL acts/ --layer 15 --rows 1000000 texts/ more.txt
    aecli train model=topk_sae dataset=activations dataset.files='acts/*.npy'

MODEL is what transformers loads: a folder, a `.gguf` file, a name on the hub. What it writes:

    00000.npy         (R, d) float16: a row a token, the residual stream after block `--layer`
    00000.tokens.npy  (R, 2) int32: the token's number, and its place in its context (0, 1, …)
    vocabulary.json   a list of texts: that of token 0, 1, …

Rows lie in the order of the text: as long as the place goes up by one from row to row, the tokens
before and after a row are its context. A context is a piece of one file. Its first token is left
out (`--keep-first` keeps it): whatever it is, its activation is many times as large as all others.
"""

import argparse
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

SUFFIXES = {".txt", ".md", ".py", ".rst"}
"""Of the files that are taken from a folder."""


def contexts(tokenizer: Any, paths: list[str], length: int, seed: int) -> Iterator[list[int]]:
    """Yield the tokens of the files, in an order drawn by `seed`, at most `length` at a time."""
    files = []
    for place in map(Path, paths):
        inside = [path for path in sorted(place.rglob("*")) if path.suffix in SUFFIXES]
        found = [place] if place.is_file() else [path for path in inside if path.is_file()]
        if not found:
            raise SystemExit(f"{place}: no text is there ({', '.join(sorted(SUFFIXES))})")
        files += found
    random.Random(seed).shuffle(files)
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        tokens = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for start in range(0, len(tokens), length):
            yield tokens[start : start + length]


def until(model: Any, layer: int) -> list[torch.Tensor]:
    """Cut a model off after block `layer`; return the list that its output will be put into."""
    blocks = next(
        part
        for part in model.modules()
        if isinstance(part, torch.nn.ModuleList) and len(part) == model.config.num_hidden_layers
    )
    if not 1 <= layer <= len(blocks):
        raise SystemExit(f"--layer {layer}: the model has blocks 1 to {len(blocks)}")
    del blocks[layer:]
    output: list[torch.Tensor] = []

    def keep(block: torch.nn.Module, given: Any, result: Any) -> None:
        output[:] = [result[0] if isinstance(result, tuple) else result]

    blocks[-1].register_forward_hook(keep)
    return output


@torch.inference_mode()
def activations(
    model: Any, layer: int, several: Iterator[list[int]], batch: int, first: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the activations `(R, d)` of each batch of contexts, and their tokens `(R, 2)`."""
    output = until(model, layer)
    while group := list(islice(several, batch)):
        width = max(map(len, group))
        tokens = torch.tensor([context + [0] * (width - len(context)) for context in group])
        is_token = torch.tensor([[i < len(context) for i in range(width)] for context in group])
        model(input_ids=tokens, attention_mask=is_token.long(), use_cache=False)
        is_token[:, :first] = False
        places = torch.arange(width).expand_as(tokens)
        rows = output[0][is_token].to(torch.float16).numpy()
        if not np.isfinite(rows).all():
            raise SystemExit("an activation is too large for float16")
        yield rows, torch.stack([tokens, places], 2)[is_token].to(torch.int32).numpy()


def shards(
    found: Iterator[tuple[np.ndarray, np.ndarray]], size: int, total: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the same rows, `size` at a time and `total` in all, if there are as many."""
    waiting, held = [], 0
    while total and (more := next(found, None)):
        waiting.append(more)
        held += len(more[0])
        while total and held >= min(size, total):
            rows, tokens = (np.concatenate(arrays) for arrays in zip(*waiting, strict=True))
            count = min(size, total)
            yield rows[:count], tokens[:count]
            waiting, held, total = [(rows[count:], tokens[count:])], held - count, total - count
    if total and held:
        rows, tokens = (np.concatenate(arrays) for arrays in zip(*waiting, strict=True))
        yield rows, tokens


def write(path: Path, array: np.ndarray) -> None:
    """Write an array whole, or not at all."""
    part = path.with_suffix(".part")
    with part.open("xb") as file:
        np.save(file, array)
    part.rename(path)


def main() -> None:
    """Write shards until there are enough rows, or no more text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("texts", nargs="+", help="files, or folders of .txt, .md, .py and .rst")
    parser.add_argument("--layer", type=int, required=True, help="after block 1, 2, …")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shard", type=int, default=65_536, help="rows a file")
    parser.add_argument("--context", type=int, default=128, help="tokens that are read together")
    parser.add_argument("--batch", type=int, default=16, help="contexts that are read together")
    parser.add_argument("--keep-first", action="store_true", help="of each context")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the files")
    asked = parser.parse_args()
    place, options = asked.model, {}
    if place.endswith(".gguf"):
        path = Path(place).resolve()
        place, options = str(path.parent), {"gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(place, **options)
    model = AutoModel.from_pretrained(place, dtype=torch.float32, **options).eval()
    asked.out.mkdir(parents=True)
    words = [tokenizer.decode([number]) for number in range(len(tokenizer))]
    (asked.out / "vocabulary.json").write_text(json.dumps(words), encoding="utf-8")
    texts = contexts(tokenizer, asked.texts, asked.context, asked.seed)
    found = activations(model, asked.layer, texts, asked.batch, 0 if asked.keep_first else 1)
    written = 0
    for number, (rows, tokens) in enumerate(shards(found, asked.shard, asked.rows)):
        write(asked.out / f"{number:05}.tokens.npy", tokens)
        write(asked.out / f"{number:05}.npy", rows)
        written += len(rows)
        print(f"{written:,} rows of {rows.shape[1]}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
