"""The places that a selection finds, beside torch's own topk on a dense tensor."""

import pytest
import torch

from aecli.dictionaries import products
from aecli.dictionaries.collectors import (
    Above,
    Largest,
    LargestOfBatch,
    LargestOfSome,
    collected,
)
from aecli.dictionaries.gradients import leave_out_along
from aecli.dictionaries.products import Encoder, above, largest


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(products, "CHUNK", 1 << 12)


def encoder(rows=50, latents=1024, features=16, dtype=torch.float32):
    return Encoder(
        torch.randn(rows, features), torch.randn(latents, features), torch.randn(latents), dtype
    )


def dense(encoder):
    return encoder.x @ encoder.weight.T + encoder.bias


def run(collector, encoder):
    for a in encoder.chunks():
        collector.add(a)
    found = collector.found()
    if not encoder.is_exact:
        found = found._replace(values=encoder.at(found.places))
    return collector.chosen(found)


@pytest.mark.parametrize("columns", [5, 64, 100, 1000, 4096, 6144, 65536])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_largest_are_those_of_topk(columns, k):
    a = torch.randn(7, columns)
    k = min(k, columns)
    values, index = largest(a, k)
    torch.testing.assert_close(values.sort().values, a.topk(k).values.sort().values)
    torch.testing.assert_close(values, a.gather(1, index))
    assert all(row.unique().numel() == k for row in index)


@pytest.mark.parametrize("columns", [5, 64, 100])
@pytest.mark.parametrize("floor", [-9.0, 0.5, 9.0])
def test_above_finds_what_a_comparison_finds(columns, floor):
    a = torch.randn(7, columns)
    counts, index, values = above(a, floor)
    rows = torch.arange(7).repeat_interleave(counts)
    assert torch.equal(torch.stack([rows, index], 1), (a > floor).nonzero())
    assert torch.equal(values, a[a > floor])


@pytest.mark.parametrize("among", [None, 3, 100, 128, 600, 1024])
def test_the_largest_of_each_row_in_chunks(among):
    source = encoder()
    latents = None if among is None else torch.randperm(1024)[:among]
    some = Largest(20, source) if among is None else LargestOfSome(20, source, latents, None)
    places, values = run(some, source)
    a = dense(source)
    if latents is not None:
        mask = torch.full((1024,), -torch.inf)
        mask[latents] = 0
        a = a + mask
    best, kept = a.topk(20 if among is None else min(20, among), dim=1)
    expected = torch.zeros_like(a).scatter(1, kept, best)
    torch.testing.assert_close(places.code(values).to_dense(), expected)


@pytest.mark.parametrize("dead", [40, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_of_some_go_by_the_numbers_with_the_shift_and_have_it_once(dead, dtype):
    source, shift = encoder(), torch.linspace(0, 9, 1024)
    lessened = Encoder(source.x, source.weight, source.bias - shift, dtype)
    some = torch.randperm(1024)[:dead]
    collectors = [LargestOfSome(8, lessened, some, shift)]
    ((places, values),) = collected(lessened, collectors, shift)
    best = dense(source)[:, some].topk(8, dim=1).values
    found = values.view(50, -1).sort(dim=1, descending=True).values
    torch.testing.assert_close(found, best)
    torch.testing.assert_close(values, dense(source)[places.row, places.index.long()])


def batch_places(a, count):
    kept = a.flatten().topk(count).indices
    return torch.zeros_like(a, dtype=torch.bool).flatten().scatter(0, kept, True).view_as(a)


@pytest.mark.parametrize("floor", [0.0, 1.0, 100.0])
def test_the_largest_of_a_batch_in_chunks(floor):
    source = encoder()
    # A row of much and rows of little: chunks differ, and one is computed anew.
    source = Encoder(source.x * torch.linspace(0, 4, 50)[:, None], source.weight, source.bias)
    places, values = run(LargestOfBatch(20, source, floor), source)
    a = dense(source)
    assert torch.equal(places.code(values).to_dense() != 0, batch_places(a, 1000))
    torch.testing.assert_close(places.code(values).to_dense()[a > 0].sum(), values.sum())


def test_fewer_positive_numbers_than_asked_for():
    source = encoder()
    source = Encoder(source.x, source.weight, source.bias - 20)
    places, values = run(LargestOfBatch(20, source), source)
    a = dense(source)
    assert len(places) == (a > 0).sum() > 0
    assert (values > 0).all()


@pytest.mark.parametrize("kind", ["largest", "some", "batch", "above"])
def test_a_selection_in_bfloat16_has_the_exact_numbers_and_nearly_the_same_places(kind):
    exact = encoder(rows=200, features=64)
    rounded = Encoder(exact.x, exact.weight, exact.bias, torch.bfloat16)
    make = {
        "largest": lambda e: Largest(20, e),
        "some": lambda e: LargestOfSome(20, e, torch.arange(0, 1024, 8), None),
        "batch": lambda e: LargestOfBatch(20, e),
        "above": lambda e: Above(15.0, e),
    }[kind]
    code, other = (p.code(v).to_dense() for p, v in (run(make(e), e) for e in (exact, rounded)))
    same = (code != 0) & (other != 0)
    torch.testing.assert_close(code[same], other[same])
    assert same.sum() >= 0.999 * (code != 0).sum() > 500


@pytest.mark.parametrize("kind", ["each", "ragged"])
def test_products_and_sums_of_parts_are_those_of_dense_tensors(kind):
    torch.manual_seed(0)
    source = encoder(rows=50, latents=64)
    collector = Largest(6, source) if kind == "each" else Above(3.0, source)
    places, values = run(collector, source)
    x, weight, code = source.x, source.weight, places.code(values).to_dense()
    kept = code != 0
    torch.testing.assert_close(places.products(x, weight), (x @ weight.T)[kept][_order(places)])
    torch.testing.assert_close(places.sums(values, weight), code @ weight)
    added, whole = torch.empty(64, 16), torch.empty(64, 16)
    places.sums_by_latent(values, x, whole)
    torch.testing.assert_close(whole, code.T @ x)
    parts = places.split(13)
    assert [part.rows for part in parts] == [13, 13, 13, 11]
    cut = values.split([len(part) for part in parts])
    for number, (part, own, rows) in enumerate(zip(parts, cut, x.split(13), strict=True)):
        part.sums_by_latent(own, rows, added, add=number > 0)
    torch.testing.assert_close(added, whole)


@pytest.mark.parametrize("block", [64 * 16, 7 * 16])
def test_a_gradients_part_along_a_row_is_left_out(block, monkeypatch):
    monkeypatch.setattr("aecli.dictionaries.places.BLOCK", block)
    torch.manual_seed(0)
    rows, gradients = torch.nn.functional.normalize(torch.randn(64, 16)), torch.randn(64, 16)
    along = (gradients * rows).sum(dim=1, keepdim=True)
    expected = gradients - along * rows
    leave_out_along(rows, gradients)
    torch.testing.assert_close(gradients, expected)


def _order(places):
    """Return which of the places, sorted by row and latent, each of them is."""
    return (places.row.long() * places.latents + places.index).argsort().argsort()
