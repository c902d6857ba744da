"""Dictionaries as folders of SAELens and sparsify: by the formulas, and in the tools themselves."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file, save_file

from aecli.build import build
from aecli.data import ArrayCard, TableCard, TargetCard
from aecli.data.records import Scaled
from aecli.dictionaries import Selection
from aecli.errors import SettingError
from aecli.runs.dictionary_folders import (
    FORMS,
    Coded,
    folded,
    read_dictionary,
    units,
    write_dictionary,
)
from tests.conftest import configure
from tests.models.test_dictionary import dictionary
from tests.models.test_transcoder import transcoder

D, N, B = 12, 64, 200
VARIANTS = {
    "topk": ["sparsity.k=5"],
    "batch_topk": ["sparsity.k=5"],
    "matryoshka": ["sparsity.k=5"],
    "jumprelu": ["sparsity.k=5"],
    "gated": ["sparsity.start_l0=5"],
    "l1": ["sparsity.start_l0=5"],
}
TOOL = os.environ.get("AECLI_SAE_PYTHON", sys.executable)
"""A Python that has sae-lens and sparsify, where they are not installed beside aecli."""
PROGRAMS = {
    "saelens": """
from sae_lens import SAE

def made(folder, rows):
    model = SAE.load_from_disk(folder)
    code = model.encode(rows)
    return {"code": code.contiguous(), "output": model.decode(code).contiguous()}
""",
    "sparsify": """
from sparsify import SparseCoder

def made(folder, rows):
    model = SparseCoder.load_from_disk(folder)
    found = model.encode(rows)
    code = torch.zeros(len(rows), model.num_latents).scatter(1, found.top_indices, found.top_acts)
    return {"code": code, "output": model.decode(found.top_acts, found.top_indices)}
""",
}
"""How each tool loads a folder, and codes and decodes rows."""
ALL_FOLDERS = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file, save_file
with torch.no_grad():
    for place in map(Path, sys.argv[1:]):
        rows = load_file(place / "rows.safetensors")["rows"]
        save_file(made(place / "folder", rows), place / "made.safetensors")
"""
PACKAGES = {"saelens": "sae_lens", "sparsify": "sparsify"}


def card():
    """Return the card of rows whose columns are far from 0 and of different widths."""
    generator = torch.Generator().manual_seed(3)
    shift = torch.randn(D, generator=generator).double()
    scale = (torch.rand(D, generator=generator) + 0.5).double() * 7
    return ArrayCard("rows", (D,), "float32", shift, scale)


def trained(variant):
    """Return a dictionary that has been started on rows, in evaluation mode, and rows `(B, D)`."""
    model = dictionary(variant, *VARIANTS[variant])
    x = torch.randn(B, D, generator=torch.Generator().manual_seed(1)) + 0.5
    with torch.no_grad():
        model.start_at(x)
        for name, parameter in model.named_parameters():
            if name != "W_dec":
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval(), x


def difference(made, own):
    """Return the largest difference of codes and outputs, relative to the largest of each."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(made, own, strict=True))


def transcodes(variant, width):
    """Return a transcoder to targets `(B, width)` that has been started, and rows `(B, D)`."""
    model = transcoder(variant, *VARIANTS[variant], made=width)
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(B, D, generator=draw) + 0.5, torch.randn(B, width, generator=draw)
    with torch.no_grad():
        model.start_at(x, y)
        for name, parameter in model.named_parameters():
            if name != "W_dec":
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval(), x


@torch.no_grad()
def exported(variant, form, folder, data):
    """Write a dictionary into a folder; return rows in the user's units, and what the run gives.

    Of a `TargetCard` that of a transcoder.
    """
    is_plain = data.target_shape is None
    model, x = trained(variant) if is_plain else transcodes(variant, data.target_shape[0])
    (shift, scale), (made_shift, made_scale) = units(data)
    folder.mkdir()
    write_dictionary(form, form.contents(model, folded(model, data)), folder)
    code = model.encode(x)
    rows = (x.double() * scale + shift).float()
    output = model.decode(code).mean.double() * made_scale + made_shift
    return rows, Coded(code, output.float())


CASES = [("saelens", variant) for variant in VARIANTS] + [("sparsify", "topk")]
TRANSCODERS = [("saelens", name) for name in VARIANTS if name not in ("topk", "gated")]
TRANSCODERS += [("sparsify", "topk")]


def target_card(width):
    """Return the card of rows, and of targets that are far from 0, too."""
    scale = torch.linspace(0.5, 4, width).double()
    made = ArrayCard("rows", (width,), "float16", torch.arange(width).double(), scale)
    return TargetCard(card(), made)


@pytest.mark.parametrize(("tool", "variant"), CASES)
def test_a_folder_has_the_codes_and_the_outputs_of_the_run(tmp_path, tool, variant):
    form = FORMS[tool]
    rows, own = exported(variant, form, tmp_path / "folder", card())
    l0 = (own.code > 0).double().sum(dim=1).mean()
    assert 2 < l0 < N / 2
    assert difference(read_dictionary(form, tmp_path / "folder")(rows), own) < 1e-5


@pytest.mark.parametrize(("tool", "variant"), TRANSCODERS)
def test_a_folder_of_a_transcoder_has_the_codes_and_the_targets_of_the_run(tmp_path, tool, variant):
    form, width = FORMS[tool], D if tool == "sparsify" else 7
    rows, own = exported(variant, form, tmp_path / "folder", target_card(width))
    assert 2 < (own.code > 0).double().sum(dim=1).mean() < N / 2
    assert own.output.shape == (B, width)
    assert difference(read_dictionary(form, tmp_path / "folder")(rows), own) < 1e-5


@pytest.mark.parametrize(
    ("tool", "variant", "width", "told"),
    [
        ("saelens", "topk", 7, "has no topk transcoder, only .*; use out=model.safetensors"),
        ("saelens", "topk", D, "has no topk transcoder, only .*; use format=sparsify"),
        ("saelens", "gated", D, "has no gated transcoder, only .*; use out=model.safetensors"),
        ("sparsify", "topk", 7, "this one takes 12 and makes 7; use out=model.safetensors"),
        ("sparsify", "l1", D, "has top-k dictionaries only"),
    ],
)
def test_a_transcoder_that_a_tool_has_not_is_refused(tool, variant, width, told):
    model, _ = transcodes(variant, width)
    with pytest.raises(SettingError, match=told):
        FORMS[tool].contents(model, folded(model, target_card(width)))


@torch.no_grad()
def test_images_are_rows_of_their_pixels_in_the_units_of_their_bytes():
    config, _ = configure("model=topk_sae", "model.code_dim=32", "sparsity.k=3")
    model, form = build(config, "model").eval(), FORMS["saelens"]
    pixels = torch.randint(0, 17, (20, 1, 8, 8), dtype=torch.uint8)
    weights = folded(model, Scaled((1, 8, 8), 16))
    made = form.apply(form.contents(model, weights), pixels.flatten(1).float())
    x = pixels / 16
    own = Coded(model.encode(x), 16 * model.reconstruct(x).flatten(1))
    assert difference(made, own) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("tool", FORMS)
def test_images_with_their_channels_last_are_rows_as_the_user_has_them(tool):
    config, _ = configure("model=topk_sae", "model.code_dim=32", "sparsity.k=3")
    config.dataset.shape = [3, 4, 5]
    model, form = build(config, "model").eval(), FORMS[tool]
    card = ArrayCard("channels_last", (4, 5, 3), "float32", torch.tensor(0.5), torch.tensor(2.0))
    v = torch.randn(20, 4, 5, 3)
    made = form.apply(form.contents(model, folded(model, card)), v.flatten(1))
    x = card.entering(v)
    own = Coded(model.encode(x), card.leaving(model.reconstruct(x)).flatten(1))
    assert difference(made, own) < 1e-5


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "topk"])
def test_sparsify_has_top_k_only(variant):
    model, _ = trained(variant)
    with pytest.raises(
        SettingError, match=r"format=sparsify: has top-k dictionaries only.*saelens"
    ):
        FORMS["sparsify"].contents(model, folded(model, card()))


class Half(Selection):
    """A selection of somebody's own."""

    def collector(self, encoder):
        raise NotImplementedError

    def dense(self, a, bias):
        raise NotImplementedError


def test_a_selection_of_ones_own_has_no_counterpart():
    model, _ = trained("topk")
    model.sparsity = Half()
    with pytest.raises(SettingError, match=r"format=saelens: has no architecture for Half"):
        FORMS["saelens"].contents(model, folded(model, card()))


def test_what_is_no_array_of_numbers_cannot_be_folded():
    with pytest.raises(SettingError, match="no array of numbers"):
        units(object.__new__(TableCard))


@pytest.mark.slow
@pytest.mark.parametrize("tool", PROGRAMS)
def test_the_tool_itself_has_the_same(tmp_path, tool):
    if sys.executable == TOOL and find_spec(PACKAGES[tool]) is None:
        pytest.skip(f'{PACKAGES[tool]} is not installed: pip install "aecli[dictionaries]"')
    raw = ArrayCard("rows", (D,), "float32", *torch.tensor([0.0, 1.0]).double())
    own = {}
    targets = {"targets": target_card(D if tool == "sparsify" else 7)}
    cases = [(variant, {"raw": raw, "scaled": card()}) for name, variant in CASES if name == tool]
    cases += [(variant, targets) for name, variant in TRANSCODERS if name == tool]
    for variant, cards in cases:
        for name, data in cards.items():
            place = tmp_path / f"{variant}-{name}"
            place.mkdir()
            rows, own[place] = exported(variant, FORMS[tool], place / "folder", data)
            save_file({"rows": rows}, place / "rows.safetensors")
    program = f"import torch\n{PROGRAMS[tool]}\n{ALL_FOLDERS}"
    environment = os.environ | {"SPARSIFY_DISABLE_TRITON": "1"}
    subprocess.run([TOOL, "-c", program, *own], check=True, env=environment, timeout=600)
    for place, coded in own.items():
        made = load_file(place / "made.safetensors")
        assert difference((made["code"], made["output"]), coded) < 1e-6, place.name
