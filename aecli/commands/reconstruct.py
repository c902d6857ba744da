"""`aecli reconstruct`: what a run's model makes of examples, in their own units."""

import torch
from omegaconf import DictConfig

from aecli.commands.passes import examples, opened, say_written
from aecli.commands.restored import new_examples, place_for
from aecli.progress import Tracked


@torch.inference_mode()
def main(config: DictConfig) -> None:
    """Write the reconstruction of each example to `out`, a folder of images or a file."""
    out = place_for(config, "clean/")
    loaded = opened(config, out)
    pieces = examples(loaded, config)
    with new_examples(out, config, loaded, pieces.count) as add:
        for batch, columns in Tracked(pieces, f"reconstructing {pieces.count:,} examples"):
            add(columns, loaded.model.reconstruct(batch.original))
    say_written(out, pieces)
