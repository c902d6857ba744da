"""`aecli export`: a run's model as a file that other programs run, or a folder that they load."""

import logging
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from aecli import files
from aecli.commands.passes import opened
from aecli.commands.places import file_for, folder_for
from aecli.data import Card, TargetCard
from aecli.errors import SettingError, check_choice, refused
from aecli.models import Dictionary
from aecli.runs.dictionary_folders import (
    FORMS,
    Coded,
    folded,
    read_dictionary,
    units,
    users_order,
    write_dictionary,
)
from aecli.runs.exported import FORMATS, PARTS, Graph, Runs, about, check_installed, traced
from aecli.runs.load import Loaded, check_places
from aecli.runs.paths import shown
from aecli.runs.weights import read_folder, write_folder

log = logging.getLogger(__name__)

FOLDER = ".safetensors"
EXAMPLES = 100
"""On which what was written is compared with the run."""
MOST = 1e-4
"""The largest difference that is let pass."""
LEAST = 1e-12
"""Of the largest value, by which a difference is divided: all may be 0."""
AT_THE_EDGE = 0.05
"""The share of examples in which another latent may be active, one as near to the threshold."""


@torch.no_grad()
def main(config: DictConfig) -> None:
    """Write the run's model to `out`, run what was written, and print the largest difference."""
    part = check_choice("part", config.part, PARTS)
    if config.format is not None:
        _export_dictionary(config)
        return
    ending = Path(config.out or "model.onnx").suffix.lower()
    if ending == FOLDER:
        out = folder_for(config, f"model{FOLDER}")
        if part != "all":
            raise SettingError(f"part={part}: goes with {' and '.join(FORMATS)}, not {FOLDER}")
    else:
        out = file_for(config, "model.onnx", (*FORMATS, FOLDER))
    check_installed(ending)
    loaded = opened(config, out, "cpu")
    loaded.config.dataset.update(check_places(loaded.config, config.dataset))
    if isinstance(loaded.model, Dictionary) and ending in FORMATS and part != "decoder":
        raise SettingError(
            f"out={config.out}: a graph cannot hold how a dictionary finds its few active latents;"
            f" use format={' or '.join(FORMS)} with a folder, or {FOLDER}"
        )
    given, x = _examples(loaded.without_targets())
    code = loaded.model.encode(x)
    reconstruction = loaded.card.leaving(loaded.model.decode(code).mean)
    values = {"x": given, "code": code, "reconstruction": reconstruction}
    if ending == FOLDER:
        with files.new_folder(out) as folder:
            write_folder(loaded, folder)
            graph: Graph = PARTS[part](*read_folder(folder))
            difference = checked(graph, graph, values)
    else:
        graph = PARTS[part](loaded.model, loaded.card)
        taken = values[graph.takes]
        content = FORMATS[ending].write(traced(graph, taken), graph, about(loaded, graph, taken))
        with files.new_files(out, overwrite=config.overwrite) as (file,):
            file.write(content)
            difference = checked(FORMATS[ending].read(content), graph, values)
    log.info("largest difference: %.2g, over %d examples", difference, len(given))
    log.info("written: %s", shown(out))


def _export_dictionary(config: DictConfig) -> None:
    """Write a dictionary as a folder of the tool that `format=` names."""
    name = config.format
    if not isinstance(name, str) or name not in FORMS:
        folders, endings = ", ".join(FORMS), ", ".join((*FORMATS, FOLDER))
        raise refused("format", name, f"one of {folders}, or left out: {endings} follow from out=")
    form = FORMS[name]
    if config.part != "all":
        raise SettingError(f"part={config.part}: goes with {' and '.join(FORMATS)}, not format=")
    if Path(config.out or "").suffix.lower() in (*FORMATS, FOLDER):
        raise SettingError(f"out={config.out}: format={name} writes a folder, such as out=my_sae/")
    out = folder_for(config, "my_sae/", form.files)
    check_installed(FOLDER)
    loaded = opened(config, out, "cpu")
    model = loaded.model
    if not isinstance(model, Dictionary):
        raise SettingError(
            f"format={name}: is for sparse dictionaries, such as model=topk_sae; the run is of"
            f" model={loaded.choices['model']}"
        )
    contents = form.contents(model, folded(model, loaded.card))
    loaded.config.dataset.update(check_places(loaded.config, config.dataset))
    _, x = _examples(loaded.without_targets())
    order = users_order(loaded.card) if model.made_shape == model.shape else slice(None)
    rows, output = (
        (t.double().cpu() * scale + shift).flatten(1)[:, order].float()
        for t, (shift, scale) in zip((x, model.reconstruct(x)), units(loaded.card), strict=True)
    )
    with files.new_folder(out, form.files if config.overwrite else ()) as folder:
        write_dictionary(form, contents, folder)
        made = read_dictionary(form, folder)(rows)
        difference, edge = compared(made, Coded(model.encode(x), output))
    beside = f", but for {edge} at the edge of a threshold" if edge else ""
    log.info("largest difference: %.2g, over %d examples%s", difference, len(x), beside)
    log.info("written: %s", shown(out))


def compared(made: Coded, own: Coded) -> tuple[float, int]:
    """Return the largest difference of codes and outputs, and in how many examples they part.

    Relative to the largest value. Examples part where rounding decides which latent is active; they
    are left out. Raises `SettingError` if they are many, or the difference is more than `MOST`.
    """
    apart = ((made.code > 0) != (own.code > 0)).any(dim=1)
    difference = 1.0
    if not apart.all():
        each = [
            (ran - wanted).abs()[~apart].amax() / wanted.abs().max().clamp_min(LEAST)
            for ran, wanted in zip(made, own, strict=True)
        ]
        difference = float(torch.stack(each).max())  # with one that is no number, it is none
    if not difference <= MOST or apart.double().mean() > AT_THE_EDGE:
        raise SettingError(
            f"export: the codes of what was written differ from the run's by {difference:.2g}, in"
            f" {int(apart.sum())} of {len(apart)} examples by another latent; nothing is left of it"
        )
    return difference, int(apart.sum())


def checked(runs: Runs, graph: Graph, values: dict[str, Tensor]) -> float:
    """Return the largest difference of what a graph gives from the run's own `values` by name.

    It is relative to the largest value, or absolute where all are below 1. Raises `SettingError`
    if it is more than `MOST`. The first example is run alone, too: the batch size is free.
    """
    taken = values[graph.takes]
    together, alone = runs(taken), runs(taken[:1])
    difference = 0.0
    for name, some, one in zip(graph.gives, together, alone, strict=True):
        own = values[name]
        for ran, wanted in ((some, own), (one, own[:1])):
            largest = (ran - wanted).abs().max() / own.abs().max().clamp(min=1)
            if not largest <= MOST:  # not a number, too
                raise SettingError(
                    f"export: the {name} of what was written differs from the run's by"
                    f" {largest:.2g}, and may by {MOST:g}; nothing is left of it"
                )
            difference = max(difference, float(largest))
    return difference


def _examples(loaded: Loaded) -> tuple[Tensor, Tensor]:
    """Return examples as a graph takes them, and as the model sees them.

    They are of the test split, or random ones where the run's data cannot be read now.
    """
    card = loaded.card
    try:
        split = loaded.data.splits["test"]
    except SettingError as error:
        log.info("compared on random examples: %s", error)
        given = _random(card)
        return given, card.entering(given)
    stored = split.examples.taken(split.rows[:EXAMPLES])
    return card.given(stored), card.scaled(stored)


def _random(card: Card) -> Tensor:
    """Return examples whose features are drawn from [0, 1) on the model's scale."""
    generator = torch.Generator().manual_seed(0)
    own = card.inputs if isinstance(card, TargetCard) else card
    given = own.leaving(torch.rand(EXAMPLES, *own.shape, generator=generator))
    return given.to(own.given_type)
