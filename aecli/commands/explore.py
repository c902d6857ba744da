"""`aecli explore`: a run as one page, to be opened in a browser."""

import logging
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from aecli import files
from aecli.commands.passes import is_known
from aecli.commands.places import READ, file_for, refuse_read
from aecli.errors import SettingError, check_bool, check_choice, check_int, check_number
from aecli.explore import examples
from aecli.explore.blob import Blob
from aecli.explore.grids import as_bytes, grid, smaller
from aecli.explore.model import Networks, described, difference, networks, statistics
from aecli.explore.page import page
from aecli.explore.parts import card_in_words
from aecli.explore.plan import Untranslatable
from aecli.explore.sweep import Sweep, sweep
from aecli.progress import Tracked
from aecli.runs.find import OUTPUTS, Run, find
from aecli.runs.load import Loaded, load
from aecli.runs.paths import as_typed, shown
from aecli.text import one_line

log = logging.getLogger(__name__)

MEGABYTE = 1e6
SPLITS = {"test": "test", "validation": "validation", "train": "training"}
"""By the name that is typed, what an example of a split is called."""
LONGEST_ID = 60
"""Characters of an example's id."""
PENS = {"mnist": {"box": 20 / 28, "by": "mass"}, "digits": {"box": 1.0, "by": "box"}}
"""How the digits of a data set lie in their images: the part of it that the longer side takes, and
what is at the centre (LeCun et al. 1998: the centre of mass; Alpaydin & Kaynak 1998: the box)."""


@torch.no_grad()
def main(config: DictConfig) -> None:
    """Write the page of the run, or of the runs, that `run=` means to `out`."""
    out = file_for(config, "explore.html", (".html",))
    limit = MEGABYTE * check_number("largest", config.largest, low=0, open_low=True)
    wants_grids = check_bool("grids", config.grids)
    runs = _runs(config)
    loaded = sweep([_opened(run, config, out) for run in runs])
    first = loaded.runs[0]
    steps = [None if wants_grids else _networks(run, limit) for run in loaded.runs]
    _check_size(loaded, steps, limit)
    split = first.data.splits[check_choice("split", config.split, SPLITS)]
    most = max(run.model.code_dim for run in loaded.runs)
    count = examples.usual_count(first.card.shape, most)
    if config.examples is not None:
        count = check_int("examples", config.examples, 1, len(split), f"those of the {config.split} split")
    places = examples.chosen(split, count)
    x = examples.taken(split, places)
    blob = Blob()
    models = [
        _model(run, of, config.split, x, label, blob)
        for run, of, label in Tracked(
            list(zip(loaded.runs, steps, loaded.labels, strict=True)), "encoding the examples"
        )
    ]
    dataset = _name_of_data(first)
    title = f"{first.choices['model']} on {dataset}"
    data = {
        "title": one_line(title),
        "run": shown(first.run.directory if len(runs) == 1 else first.run.directory.parent),
        "dataset": dataset,
        "keys": loaded.keys,
        "card": card_in_words(first.card),
        "pen": PENS.get(first.choices["dataset"]),
        "examples": _examples(first, config.split, x, places, steps, blob),
        "models": models,
    }
    content = page(title, data, blob.text()).encode()
    if len(content) > limit:
        raise SettingError(
            f"{_of(runs, config)}: the page has {len(content) / MEGABYTE:.1f} MB, and"
            f" largest={config.largest:g} is the limit; take fewer examples"
            f" (examples={max(1, len(places) // 2)}), or a larger limit"
        )
    with files.new_files(out, overwrite=config.overwrite) as (file,):
        file.write(content)
    told = f"{len(content) / MEGABYTE:.2f} MB, {len(places):,} {SPLITS[config.split]} examples"
    log.info("written: %s (%s); open it in a browser", shown(out), told)


def _runs(config: DictConfig) -> list[Run]:
    """Return the runs that `run=` means: one, a sweep's, or several by name."""
    specs = list(config.run) if isinstance(config.run, ListConfig) else [config.run]
    if not specs or not all(isinstance(spec, str) and spec for spec in specs):
        raise SettingError(
            f"run={config.run}: must be a run, a sweep, or a list of them, such as run=[a,b]"
        )
    found = [run for spec in specs for run in find(spec, config.output_dir or OUTPUTS)]
    return list({run.checkpoint.resolve(): run for run in found}.values())


def _opened(run: Run, config: DictConfig, out: Path) -> Loaded:
    log.info("with %s", shown(run.checkpoint))
    loaded = load(run, config.device, **config.dataset)
    own = loaded.config.dataset
    if not is_known(own):
        refuse_read(out, [own.get(key) for key in READ])
    return loaded


def _networks(run: Loaded, limit: float) -> Networks | None:
    """Return a model's networks; None if the page cannot compute them, which is said."""
    try:
        return networks(run)
    except Untranslatable as part:
        log.info(
            "%s: the page cannot compute %s; it has decodings made beforehand in its place",
            shown(run.run.directory),
            one_line(part),
        )
        return None


def _check_size(loaded: Sweep, steps: list[Networks | None], limit: float) -> None:
    """Refuse models that are too large for a page, before any work is done."""
    size = sum(of.size for of in steps if of)
    if 0.75 * size > limit:  # what a good compression leaves of it
        several = len(loaded.runs) > 1
        where = loaded.runs[0].run.directory
        what = f"the {len(loaded.runs)} models" if several else "the model"
        raise SettingError(
            f"{as_typed('run', where.parent if several else where)}: {what} would take"
            f" {size / MEGABYTE:.1f} MB in the page, and the limit is"
            f" largest={limit / MEGABYTE:g}; add grids=true for decodings made beforehand in"
            " place of the networks, or raise the limit"
        )


def _model(
    run: Loaded, steps: Networks | None, split: str, x: Tensor, label: list[str], blob: Blob
) -> dict[str, Any]:
    """Return what the page has of a run."""
    run.model.noise.fit(run.data.values())
    rounds = run.config.dataset.get("binarize", "none") != "none"
    of, found = examples.codes(run.model, x, rounds), statistics(run, split)
    model = described(run, steps, found, of, blob)
    if steps is None:
        model["grid"] = grid(run.model, found, of, blob)
    else:
        log.info(
            "largest difference of the page's decodings from the run's: %.2g"
            " (its weights have 16 bits)",
            difference(run.model, steps, x, of),
        )
    return model | {"label": label}


def _examples(
    run: Loaded, name: str, x: Tensor, places: Any, steps: list[Networks | None], blob: Blob
) -> dict[str, Any]:
    """Return the examples in the page, as large as an encoder needs them."""
    split = run.data.splits[name]
    low, high = examples.card_range(x, run.card)
    if not any(steps):
        x = as_bytes(smaller(x))
    labels = split.labels[torch.from_numpy(places)]
    known = labels.unique().tolist() if run.data.is_labelled else []
    names = [one_line(name, LONGEST_ID) for name in run.data.names(torch.tensor(known))]
    number = {label: place for place, label in enumerate(known)}
    found = [number[label] for label in labels.tolist()] if known else None
    return {
        "split": SPLITS[name],
        "count": len(places),
        "of": len(split),
        "shape": list(x.shape[1:]),
        "x": examples.in_blob(x.cpu(), blob),
        "range": [low, high],
        "ids": [one_line(text, LONGEST_ID) for text in split.ids[places]],
        "labels": found,
        "names": names,
    }


def _name_of_data(run: Loaded) -> str:
    """Return what a page calls the data: its file or folder, if it is a user's own."""
    own = run.config.dataset
    place = None if is_known(own) else next((own.get(key) for key in READ if own.get(key)), None)
    return one_line(Path(str(place)).name if place else run.choices["dataset"])


def _of(runs: list[Run], config: DictConfig) -> str:
    where = runs[0].directory
    return as_typed("run", where if len(runs) == 1 else where.parent)
