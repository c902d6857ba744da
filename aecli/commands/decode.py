"""`aecli decode`: examples from codes, in the units of the run's data."""

import logging

import torch
from omegaconf import DictConfig

from aecli.codes import CodeFile
from aecli.commands.passes import opened
from aecli.commands.restored import new_examples, place_for
from aecli.errors import SettingError, check_int
from aecli.patterns import expanded
from aecli.progress import Tracked
from aecli.runs.paths import shown

log = logging.getLogger(__name__)


@torch.inference_mode()
def main(config: DictConfig) -> None:
    """Write the example that each code of the file `codes` stands for to `out`."""
    out = place_for(config, "images/")
    size = check_int("batch_size", config.batch_size, 1)
    if not config.codes:
        raise SettingError("codes=null: must be a file, such as codes=codes.csv")
    loaded = opened(config, out)
    codes = CodeFile(expanded(config.codes), loaded.model.code_dim, size, config.key)
    with new_examples(out, config, loaded, codes.count) as add:
        for ids, z in Tracked(codes, f"decoding {codes.count:,} codes"):
            code = torch.from_numpy(z).to(loaded.model.device)
            add({"id": ids}, loaded.model.decode(code).mean)
    log.info("written: %s", shown(out))
