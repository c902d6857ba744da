"""`aecli explore`: a run as one page, to be opened in a browser."""

import logging
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from aecli import files
from aecli.commands.passes import is_known
from aecli.commands.places import file_for, refuse_read
from aecli.errors import SettingError, check_bool, check_choice, check_int, check_number, refused
from aecli.explore import examples
from aecli.explore.blob import Blob
from aecli.explore.grids import as_bytes, grid, smaller
from aecli.explore.model import Networks, described, difference, statistics
from aecli.explore.model import networks as networks_of
from aecli.explore.page import page
from aecli.explore.parts import card_in_words
from aecli.explore.plan import Untranslatable
from aecli.explore.sweep import Sweep, sweep
from aecli.progress import Tracked
from aecli.runs.find import OUTPUTS, Run, find
from aecli.runs.load import Loaded, load
from aecli.runs.paths import PLACES, as_typed, files_of, shown
from aecli.text import one_line

log = logging.getLogger(__name__)

MEGABYTE = 1e6
COMPRESSED = 0.8
"""Of the bytes of weights, what compression leaves at the best."""
SPLITS = {"test": "test", "validation": "validation", "train": "training"}
"""By the name that is typed, what an example of a split is called."""
LONGEST_ID = 60
"""Characters of an example's id."""
PENS = {"mnist": {"box": 20 / 28, "by": "mass"}, "digits": {"box": 1.0, "by": "box"}}
"""How the digits of a data set lie in their images: the part of it that the longer side takes, and
what is at the centre (LeCun et al. 1998: the centre of mass; Alpaydin & Kaynak 1998: the box)."""


def main(config: DictConfig) -> None:
    """Write the page of the run, or of the runs, that `run=` means to `out`."""
    out = file_for(config, "explore.html", (".html",))
    check_number("largest", config.largest, low=0, open_low=True)
    check_bool("grids", config.grids)
    check_choice("split", config.split, SPLITS)
    runs = sweep([_opened(run, config, out) for run in _runs(config)])
    content, count = made(runs, config)
    with files.new_files(out, overwrite=config.overwrite) as (file,):
        file.write(content)
    told = f"{len(content) / MEGABYTE:.2f} MB, {count:,} {SPLITS[config.split]} examples"
    log.info("written: %s (%s); open it in a browser", shown(out), told)


@torch.no_grad()
def made(runs: Sweep, config: DictConfig) -> tuple[bytes, int]:
    """Return the page of some runs, and how many examples are in it.

    Raises `SettingError` if it would be larger than `config.largest`.
    """
    first = runs.runs[0]
    networks = [None if config.grids else _networks(run) for run in runs.runs]
    _check_size(runs, networks, config.largest)
    split = first.data.splits[config.split]
    most = max(run.model.code_dim for run in runs.runs)
    count = examples.usual_count(first.card.shape, most)
    if config.examples is not None:
        why = f"those of the {config.split} split"
        count = check_int("examples", config.examples, 1, len(split), why)
    places = examples.chosen(split, count)
    x = examples.taken(split, places)
    _check_same_examples(runs, config.split, places, x)
    if not all(networks) and smaller(x[:1]).shape != x.shape:
        networks = [None] * len(networks)  # pictures of one size
    blob = Blob()
    each = list(zip(runs.runs, networks, runs.labels, strict=True))
    models = [
        _model(run, steps, config.split, x, blob) | {"label": label}
        for run, steps, label in Tracked(each, "encoding the examples")
    ]
    dataset = _name_of_data(first)
    names = dict.fromkeys(run.choices["model"] for run in runs.runs)
    title = one_line(f"{', '.join(names)} on {dataset}")
    data = {
        "title": title,
        "run": one_line("/".join(_place(runs).absolute().parts[-2:])),  # a page is sent to others
        "dataset": dataset,
        "keys": runs.keys,
        "card": card_in_words(first.card),
        "pen": PENS.get(first.choices["dataset"]),
        "examples": _examples(first, config.split, x, places, all(networks), blob),
        "models": models,
    }
    content = page(title, data, blob.text()).encode()
    if len(content) > MEGABYTE * config.largest:
        raise SettingError(
            f"{as_typed('run', _place(runs))}: the page has {len(content) / MEGABYTE:.2f} MB, and"
            f" the limit is largest={config.largest:g}; take fewer examples"
            f" (examples={max(1, len(places) // 2)}), or raise the limit"
        )
    return content, len(places)


def _runs(config: DictConfig) -> list[Run]:
    """Return the runs that `run=` means: one, a sweep's, or several by name."""
    typed = list(config.run) if isinstance(config.run, ListConfig) else config.run
    specs = typed if isinstance(typed, list) else [typed]
    if not specs or not all(isinstance(spec, str) and spec for spec in specs):
        raise refused("run", typed, "a run, a sweep, or a list of them, such as run=[a,b]")
    found = [run for spec in specs for run in find(spec, config.output_dir or OUTPUTS)]
    return list({run.checkpoint.resolve(): run for run in found}.values())


def _opened(run: Run, config: DictConfig, out: Path) -> Loaded:
    log.info("with %s", shown(run.checkpoint))
    loaded = load(run, config.device, **config.dataset)
    if loaded.card.target_shape is not None:
        raise SettingError(
            f"{as_typed('run', run.directory)}: makes targets of what it reads; the page is of"
            " models that make their examples again"
        )
    own = loaded.config.dataset
    if not is_known(own):
        refuse_read(out, list(files_of(own).values()))
    return loaded


def _networks(run: Loaded) -> Networks | None:
    """Return a model's networks; None if the page cannot compute them, which is said."""
    try:
        return networks_of(run)
    except Untranslatable as part:
        log.info(
            "%s: the page cannot compute %s; it has decodings made beforehand in its place",
            shown(run.run.directory),
            one_line(part),
        )
        return None


def _check_size(runs: Sweep, networks: list[Networks | None], largest: float) -> None:
    """Refuse models that are too large for a page, before any work is done."""
    size = sum(COMPRESSED * steps.size for steps in networks if steps)
    if size > MEGABYTE * largest:
        count = len(runs.runs)
        what = "the model" if count == 1 else f"the {count} models"
        raise SettingError(
            f"{as_typed('run', _place(runs))}: {what} would take {size / MEGABYTE:.1f} MB of the"
            f" page, and the limit is largest={largest:g}; add grids=true for decodings made"
            " beforehand in place of the networks, or raise the limit"
        )


def _check_same_examples(runs: Sweep, name: str, places: np.ndarray, x: Tensor) -> None:
    """Refuse runs to which the examples look otherwise: another file, or scaled in another way."""
    first = runs.runs[0]
    count = len(first.data.splits[name])
    for run in runs.runs[1:]:
        split = run.data.splits[name]
        if len(split) != count or not torch.equal(examples.taken(split, places), x):
            raise SettingError(
                f"{as_typed('run', run.run.directory)}: has other {name} examples than"
                f" {shown(first.run.directory)}, or scales them by another training split; a page"
                " shows runs of the same"
            )


def _model(
    run: Loaded, networks: Networks | None, split: str, x: Tensor, blob: Blob
) -> dict[str, Any]:
    """Return what the page has of a run."""
    run.model.noise.fit(run.data.values(), run.card.shape)
    rounds = run.config.dataset.get("binarize", "none") != "none"
    codes, found = examples.codes(run.model, x, rounds), statistics(run, split)
    model = described(run, networks, found, codes, blob)
    if networks is None:
        return model | {"grid": grid(run.model, found, codes, blob)}
    log.info(
        "largest difference of the page's decodings, from weights of 16 bits: %.2g",
        difference(run.model, networks, x, codes),
    )
    return model


def _examples(
    run: Loaded, name: str, x: Tensor, places: np.ndarray, are_encoded: bool, blob: Blob
) -> dict[str, Any]:
    """Return the examples in the page: as an encoder takes them, or as they are looked at."""
    split = run.data.splits[name]
    low, high = examples.card_range(x, run.card)
    if not are_encoded:
        x = as_bytes(smaller(x))
    labels = split.labels[torch.from_numpy(places)]
    known = labels.unique() if run.data.is_labelled else labels[:0]
    return {
        "split": SPLITS[name],
        "count": len(places),
        "of": len(split),
        "shape": list(x.shape[1:]),
        "x": examples.in_blob(x.cpu(), blob),
        "range": [low, high],
        "ids": [one_line(text, LONGEST_ID) for text in split.ids[places]],
        "labels": torch.searchsorted(known, labels).tolist() if len(known) else None,
        "names": [one_line(text, LONGEST_ID) for text in run.data.names(known)],
    }


def _place(runs: Sweep) -> Path:
    """Return the directory of a run, or the one that several lie in, such as a sweep's."""
    directories = [run.run.directory.absolute() for run in runs.runs]
    if len(set(directories)) == 1:
        return runs.runs[0].run.directory
    return Path(commonpath(directories))


def _name_of_data(run: Loaded) -> str:
    """Return what a page calls the data: its file or folder, if it is a user's own."""
    own = run.config.dataset
    place = None if is_known(own) else next((own.get(key) for key in PLACES if own.get(key)), None)
    return one_line(Path(str(place)).name if place else run.choices["dataset"])
