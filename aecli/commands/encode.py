"""`aecli encode`: the codes of examples, a row each, into a file."""

import torch
from omegaconf import DictConfig

from aecli.commands.passes import examples, opened, say_written
from aecli.commands.places import file_for
from aecli.progress import Tracked
from aecli.rows import new_rows


@torch.inference_mode()
def main(config: DictConfig) -> None:
    """Write id, split, label and the code z0, z1, … of each example to the file `out`."""
    out = file_for(config, "codes.csv")
    loaded = opened(config, out)
    pieces = examples(loaded, config)
    with new_rows(out, pieces.count, "z", config.overwrite) as add:
        for batch, columns in Tracked(pieces, f"encoding {pieces.count:,} examples"):
            code = loaded.model.encode(batch.original)
            add({**columns, "z": code.numpy(force=True)})
    say_written(out, pieces)
