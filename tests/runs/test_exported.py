"""Exported graphs give the numbers of the run, and what they hold."""

import io
import json

import numpy as np
import onnxruntime
import pytest
import torch

from aecli.build import build
from aecli.commands.export import checked
from aecli.data import Scaled
from aecli.data.array import fitted
from aecli.data.images import ImageCard
from aecli.errors import SettingError
from aecli.runs.exported import ABOUT, FORMATS, PARTS, check_installed, traced
from tests.conftest import DICTIONARIES, LAYERED, NETWORKS, SPARSITIES, configure, options, small

CARD = Scaled((1, 8, 8), 16)


def model_of(*overrides):
    return build(configure(*overrides)[0], "model").eval().requires_grad_(False)


def values_of(model, card, stored):
    """Return the run's own numbers by name, as `checked` wants them."""
    code = model.encode(card.scaled(stored))
    made = card.leaving(model.decode(code).mean)
    return {"x": card.given(stored), "code": code, "reconstruction": made}


def exported(model, card, stored, part, ending):
    """Return the largest difference of a part from the run, written and read again."""
    graph, values = PARTS[part](model, card), values_of(model, card, stored)
    content = FORMATS[ending].write(traced(graph, values[graph.takes]), graph, "{}")
    return checked(FORMATS[ending].read(content), graph, values)


def digits(count=5):
    return torch.randint(0, 17, (count, 1, 8, 8), dtype=torch.uint8)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_agrees(part):
    assert exported(model_of(*small("vae")), CARD, digits(), part, ".pt2") < 1e-5


def test_a_prior_is_left_out():
    model = model_of(*small("vae"), "prior=vamp", "prior.pseudo_inputs=3")
    assert exported(model, CARD, digits(), "all", ".pt2") < 1e-5
    for part in PARTS.values():
        names = part(model, CARD).state_dict()
        assert names
        assert not any("prior" in name for name in names)
    assert model.prior.inputs.shape == (3, 1, 8, 8)


NO_K = ("gated_sae", "l1_sae")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("variant", LAYERED)
@pytest.mark.slow
def test_every_variant_and_network_agrees(variant, network):
    model = model_of(f"model={variant}", *([f"network={network}"] if variant != "pca" else []))
    if variant == "pca":  # the weights of a solution, on the scale of the data
        x = CARD.scaled(digits(200)).flatten(1).double()
        model.solve(x.sum(0), x.T @ x, len(x))
    for ending in (".onnx", ".pt2") if variant in ("ae", "vae") else (".onnx",):
        assert exported(model, CARD, digits(), "all", ending) < 1e-5


@pytest.mark.parametrize("variant", DICTIONARIES)
def test_every_dictionary_agrees(variant):
    model = model_of(
        *small(variant), "sparsity.k=5" if variant not in NO_K else "sparsity.weight=1"
    )
    model.start_at(CARD.scaled(digits(200)))
    assert exported(model, CARD, digits(), "all", ".pt2") < 1e-5


@pytest.mark.parametrize("likelihood", options("likelihood"))
@pytest.mark.slow
def test_every_likelihood_agrees(likelihood):
    if likelihood == "mixed":
        pytest.skip("is of tables")
    model = model_of("network.hidden=[8]", f"likelihood={likelihood}")
    assert exported(model, CARD, digits(), "decoder", ".onnx") < 1e-5


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_every_sparsity_agrees(sparsity):
    model = model_of("model=ae", "network.hidden=[8]", f"sparsity={sparsity}", "model.code_dim=100")
    assert exported(model, CARD, digits(), "all", ".pt2") < 1e-5


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float16", "float32", "float64", "int32"])
@pytest.mark.parametrize(
    ("shape", "layout"),
    [((20, 6), "rows"), ((20, 4, 6), "images"), ((20, 4, 6, 3), "channels_last")],
    ids=str,
)
def test_arrays_go_in_and_out_in_their_own_units_and_layout(shape, layout, dtype):
    values = np.random.default_rng(0).normal(100, 30, shape).clip(0, 255)
    values = (values > 100 if dtype == "bool" else values).astype(dtype)
    card = fitted(values, torch.arange(15), layout, "standard")
    size = f"dataset.shape=[{','.join(map(str, card.shape))}]"
    model = model_of("model=ae", "dataset=array", "network.hidden=[8]", size, "model.code_dim=3")
    stored = card.stored(values)
    graph, given = PARTS["all"](model, card), card.given(stored)
    assert given.shape == values.shape
    np.testing.assert_allclose(given.numpy().astype(float), values.astype(float), rtol=1e-3)
    code, reconstruction = graph(given)
    torch.testing.assert_close(code, model.encode(card.scaled(stored)))
    made = card.restored(model.decode(code).mean).astype(float)
    assert reconstruction.shape == values.shape
    rounding = 0.5 if values.dtype.kind in "uib" else 0.1
    np.testing.assert_allclose(reconstruction.numpy(), made, atol=1.01 * rounding)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [255, 65535])
@pytest.mark.parametrize("ending", FORMATS)
def test_pictures_go_in_as_their_pixels(scale, ending):
    card = ImageCard((3, 8, 8), scale, None, (0, 0, 0))
    pixels = np.random.default_rng(0).integers(0, scale + 1, (9, 3, 8, 8))
    stored = card.stored(torch.from_numpy(pixels.astype(np.uint8 if scale == 255 else np.uint16)))
    model = model_of("dataset=images", "dataset.shape=[3,8,8]", "network.channels=[4]")
    assert exported(model, card, stored, "all", ending) < 1e-5


def test_float64_rows_with_a_large_mean_keep_their_differences():
    values = 1e9 + np.random.default_rng(0).normal(size=(20, 4))
    card = fitted(values, torch.arange(20), "rows", "standard")
    assert card.given(card.stored(values)).dtype == torch.float64
    x = card.entering(card.given(card.stored(values)))
    np.testing.assert_allclose(x.std(0, correction=0), 1, rtol=1e-3)


def test_a_file_says_what_it_is():
    graph = PARTS["encoder"](model_of(*small("vae")), CARD)
    text = json.dumps({"input": "x"})
    program = traced(graph, digits())
    held = {ABOUT: ""}
    torch.export.load(io.BytesIO(FORMATS[".pt2"].write(program, graph, text)), extra_files=held)
    assert json.loads(held[ABOUT]) == {"input": "x"}
    assert not any("decoder" in name for name in program.state_dict)


@pytest.mark.slow
def test_an_onnx_file_has_names_a_free_batch_and_the_data_card():
    graph = PARTS["all"](model_of(*small("ae")), CARD)
    content = FORMATS[".onnx"].write(traced(graph, digits()), graph, '{"card": 1}')
    session = onnxruntime.InferenceSession(content)
    (x,), (code, reconstruction) = session.get_inputs(), session.get_outputs()
    assert (x.name, code.name, reconstruction.name) == ("x", "code", "reconstruction")
    assert (x.type, x.shape[1:]) == ("tensor(uint8)", [1, 8, 8])
    assert isinstance(x.shape[0], str)
    assert session.get_modelmeta().custom_metadata_map[ABOUT] == '{"card": 1}'


def test_a_difference_is_refused():
    model = model_of(*small("vae"))
    graph, values = PARTS["encoder"](model, CARD), values_of(model, CARD, digits())

    def wrong(x):
        return [2e-4 * values["code"].abs().max().clamp(min=1) + graph(x)[0]]

    with pytest.raises(SettingError, match="differs from the run's by"):
        checked(wrong, graph, values)

    def nan(x):
        return [graph(x)[0] * torch.nan]

    with pytest.raises(SettingError, match="differs from the run's by nan"):
        checked(nan, graph, values)


def test_a_batch_size_that_is_fixed_is_refused():
    model = model_of(*small("vae"))
    graph, values = PARTS["encoder"](model, CARD), values_of(model, CARD, digits())
    with pytest.raises(SettingError, match="differs"):
        checked(lambda x: [graph(values["x"])[0][: len(x)] * len(x)], graph, values)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr("aecli.runs.exported.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"onnxruntime, not installed; pip install"):
        check_installed(".onnx")
    check_installed(".pt2")
