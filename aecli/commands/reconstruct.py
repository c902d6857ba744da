"""`aecli reconstruct`: what a run's model makes of examples, in their own units."""

import logging

import torch
from omegaconf import DictConfig

from aecli.commands.passes import examples, opened
from aecli.commands.restored import new_examples, place_for
from aecli.progress import Tracked
from aecli.runs.paths import shown

log = logging.getLogger(__name__)


@torch.inference_mode()
def main(config: DictConfig) -> None:
    """Write the reconstruction of each example to `out`, a folder of images or a file."""
    out = place_for(config, "clean/")
    loaded = opened(config, out)
    pieces = examples(loaded, config)
    with new_examples(out, config, loaded, pieces.count) as add:
        for batch, columns in Tracked(pieces, f"reconstructing {pieces.count:,} examples"):
            add(columns, loaded.model.reconstruct(batch.original))
    log.info("written: %s", shown(out))
