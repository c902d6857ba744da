"""Rows that are drawn as they are needed: each by a seed and its place."""

import pytest
import torch

from aecli.build import build
from aecli.data import Drawn
from aecli.errors import SettingError
from tests.conftest import configure

SMALL = ("dataset=synthetic_features", "model=topk_sae", "model.code_dim=64")
SIZES = ("dataset.rows=1000", "dataset.validation_size=300", "dataset.test_size=700")
TINY = ("dataset.true_features=100", "dataset.width=8", "dataset.trees=1")


def opened(*words):
    module = build(configure(*SMALL, *SIZES, *TINY, "dataset.batch_size=90", *words)[0], "dataset")
    module.setup()
    return module


def in_training(module, seed=0, done=0, part=(0, 1), batch_size=90):
    batches = module.shuffled("train", batch_size, lambda: seed)
    batches.done, batches.part = done, part
    return [batch.x for batch in batches]


def whole(batches):
    return torch.cat([batch.x for batch in batches])


def test_splits_are_the_same_in_every_run_and_their_rows_are_different_ones():
    module = opened()
    splits = {name: whole(module.batches(name)) for name in module.splits}
    assert [len(x) for x in splits.values()] == [1000, 300, 700]
    again = opened("dataset.rows=2000", "seed=1")
    for name in ("validation", "test"):
        assert torch.equal(whole(again.batches(name)), splits[name])
        assert torch.equal(whole(again.batches(name, 7)), splits[name]), "in batches of any size"
    assert torch.equal(whole(again.batches("train"))[:1000], splits["train"])
    every = torch.cat(list(splits.values()))
    has_any = every[(every != module.dictionary.bias).any(dim=1)]
    assert len(has_any.unique(dim=0)) == len(has_any)
    other = opened("dataset.seed=1")
    assert not torch.equal(other.dictionary.features, module.dictionary.features)
    assert not torch.equal(whole(other.batches("test")), splits["test"])


def test_a_first_batch_takes_no_memory_for_the_others(monkeypatch):
    module, arange = opened("dataset.rows=2147483647"), torch.arange

    def small(*ends, **settings):
        made = arange(*ends, **settings | {"device": "meta"})
        assert made.numel() < 100_000, "as many numbers as there are rows"
        return arange(*ends, **settings)

    monkeypatch.setattr(torch, "arange", small)
    assert next(iter(module.batches("train"))).x.shape == (90, 8)
    assert next(iter(module.shuffled("train", 90, lambda: 0))).x.shape == (90, 8)


def test_a_pass_has_rows_of_its_own_and_can_begin_at_any_batch():
    module = opened()
    first = in_training(module)
    assert [len(x) for x in first] == [90] * 11 + [10]
    assert all(map(torch.equal, first, in_training(module)))
    assert not torch.equal(first[0], in_training(module, seed=1)[0])
    assert not torch.equal(first[0], whole(module.batches("train"))[:90])
    for done in (1, 5, 11):
        rest = in_training(module, done=done)
        assert len(rest) == 12 - done
        assert all(map(torch.equal, first[done:], rest))
    assert torch.equal(torch.cat(in_training(module, batch_size=333)), torch.cat(first))


@pytest.mark.parametrize("parts", [2, 3])
def test_several_processes_share_each_batch(parts):
    module = opened()
    shares = [in_training(module, part=(rank, parts)) for rank in range(parts)]
    for batch, *own in zip(in_training(module), *shares, strict=True):
        assert torch.equal(torch.cat(own), batch)


def test_any_rows_can_be_taken():
    module = opened()
    split = module.splits["test"]
    x = whole(module.batches("test"))
    places = torch.tensor([699, 0, 1, 2, 300, 5, 5])
    taken = split.examples.taken(split.rows[places]).view(torch.float32)
    assert torch.equal(taken, x[places])
    data = module.source.read(None, None).data
    assert torch.equal(torch.from_numpy(data[1300:]), x)
    assert torch.equal(torch.from_numpy(data[1305]), x[5])
    assert data[[999, 1000]].shape == (2, 8)
    assert len(module.some(2500)) == 2500
    assert torch.equal(module.some(3), whole(module.batches("train"))[:3])


def test_what_the_rows_are_sums_of_comes_with_them():
    module = opened()
    parts = module.drawn("test", 300)
    assert len(parts) == 3
    assert [len(part.x) for part in parts] == [300, 300, 100]
    assert torch.equal(torch.cat([part.x for part in parts]), whole(module.batches("test")))
    for x, firings in map(Drawn._make, parts):
        codes = torch.zeros(len(x), 100)
        codes[firings.row, firings.feature] = firings.value
        expected = codes @ module.dictionary.features + module.dictionary.bias
        torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)


def test_rows_are_left_as_they_are():
    module = opened()
    assert module.card.scale == 1
    assert module.card.shift == 0
    low, high, between = module.values()
    assert low < between < high
    torch.testing.assert_close(
        module.mean(), whole(module.batches("train")).mean(0), atol=0.3, rtol=0
    )
    assert "a known dictionary of 100 features in 8 dimensions: 1 tree of 85" in module.understood


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("dataset.rows=0", "dataset.rows=0: must be a whole number of at least 1"),
        ("dataset.rows=89", "dataset.rows=89: must be at least dataset.batch_size=90"),
        ("dataset.validation_size=0.1", "dataset.validation_size=0.1: must be a whole number"),
        (
            "dataset.test_size=null",
            "dataset.test_size=null: must be a whole number from 1 to 10000000",
        ),
        ("dataset.batch_size=null", "dataset.batch_size=null: must be a whole number"),
        ("dataset.width=0", "dataset.width=0: must be a whole number of at least 1"),
        ("dataset.binarize=fixed", "dataset.binarize=fixed: features are not binarized"),
        ("dataset.seed=-1", "dataset.seed=-1: must be a whole number from 0"),
        (
            "dataset.trees=2",
            "dataset.trees=2, dataset.branching=4, dataset.depth=3: are trees of 170",
        ),
    ],
)
def test_settings_that_cannot_be(word, told):
    with pytest.raises(SettingError) as refusal:
        opened(word)
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    "word",
    [
        "dataset.true_features=90",
        "dataset.seed=1",
        "dataset.width=9",
        "dataset.rate_exponent=0.6",
        "dataset.highest_rate=0.3",
        "dataset.lowest_rate=0.01",
        "dataset.correlation_rank=20",
        "dataset.correlation_scale=0.05",
        "dataset.trees=0",
        "dataset.branching=3",
        "dataset.depth=2",
        "dataset.exclusive=0.5",
        "dataset.magnitudes=[5,5]",
        "dataset.deviation=[0.5,0]",
        "dataset.bias=0",
    ],
)
def test_every_setting_changes_the_rows(word):
    assert not torch.equal(whole(opened(word).batches("test")), whole(opened().batches("test")))
