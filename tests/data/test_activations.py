"""Activations in shards: split by blocks, scaled by one number, shuffled through a buffer."""

import numpy as np
import pytest
import torch

from aecli.data import ActivationData, activations, mixed
from aecli.data.activations import spread
from aecli.data.records import card_of
from aecli.errors import SettingError

WIDTH = 8
COUNT = 3000


@pytest.fixture
def folder(tmp_path):
    """Return a folder with rows that say their own number: its digits to the base 32, and more."""
    numbers = np.arange(COUNT)
    rows = np.random.default_rng(0).normal(1, 3, (COUNT, WIDTH)).astype(np.float16)
    rows[:, 0], rows[:, 1] = numbers // 32, numbers % 32
    for number, part in enumerate(np.split(rows, [700, 1024, 2900])):
        np.save(tmp_path / f"{number}.npy", part)
    return tmp_path


def opened(folder, stage=None, **settings):
    sizes = {"shape": None, "validation_size": None, "batch_size": 100}
    module = ActivationData(str(folder / "*.npy"), **sizes | settings)
    module.setup(stage)
    return module


def numbers(x):
    """Return the numbers that unscaled rows say."""
    return (x[:, 0] * 32 + x[:, 1]).long()


def in_training(module, seed=0, done=0, part=(0, 1), batch_size=100):
    """Return the numbers of the rows of each batch of a pass."""
    batches = module.shuffled("train", batch_size, lambda: seed)
    batches.done, batches.part = done, part
    return [numbers(batch.x) for batch in batches]


def test_splits_are_blocks_of_neighbours_that_no_other_split_has(folder):
    module = opened(folder, scale="none", validation_size=500, test_size=0.2)
    splits = {name: module.splits[name].rows[:] for name in ("train", "validation", "test")}
    assert [len(rows) for rows in splits.values()] == [1900, 500, 600]
    assert torch.cat(list(splits.values())).sort()[0].tolist() == list(range(COUNT))
    for name, rows in splits.items():
        found = torch.cat([numbers(batch.x) for batch in module.batches(name)])
        assert torch.equal(found, rows), "in the order of the files"
    assert (splits["validation"].diff() == 1).sum() > 490
    again = opened(folder, validation_size=500, test_size=0.2, split_seed=1)
    assert not torch.equal(again.splits["validation"].rows[:], splits["validation"])
    few = opened(folder, train_size=300, validation_size=500, test_size=0.2)
    assert set(few.splits["train"].rows[:].tolist()) < set(splits["train"].tolist())
    assert len(few.splits["train"]) == 300


def test_by_default_a_tenth_is_held_out_and_not_more_than_a_number(folder, monkeypatch):
    module = opened(folder)
    assert [len(module.splits[name]) for name in ("validation", "test")] == [300, 300]
    assert "300 rows drawn for validation and for test" in module.understood
    monkeypatch.setattr(activations, "MOST_HELD_OUT", 150)
    assert [len(opened(folder).splits[name]) for name in ("validation", "test")] == [150, 150]


@pytest.mark.parametrize("buffer", [1, 1000, 10_000, 1 << 30])
def test_a_pass_has_every_row_once_in_an_order_of_its_seed(folder, monkeypatch, buffer):
    monkeypatch.setattr(mixed, "MIXED", buffer)
    module = opened(folder, scale="none")
    first = in_training(module)
    assert [len(batch) for batch in first] == [100] * 24
    assert torch.equal(torch.cat(first).sort()[0], module.splits["train"].rows[:])
    assert all(torch.equal(*pair) for pair in zip(first, in_training(module), strict=True))
    assert not torch.equal(first[0], in_training(module, seed=1)[0])
    together = (torch.cat(first).diff() == 1).float().mean()
    assert together < 0.05, "neighbours come after each other"


@pytest.mark.parametrize("buffer", [5000, 1 << 30])
@pytest.mark.parametrize("done", [1, 7, 23])
def test_a_pass_can_begin_at_any_batch(folder, monkeypatch, buffer, done):
    monkeypatch.setattr(mixed, "MIXED", buffer)
    module = opened(folder, scale="none", validation_size=0.09)
    whole = in_training(module)
    rest = in_training(module, done=done)
    assert len(rest) == len(whole) - done
    assert all(torch.equal(*pair) for pair in zip(whole[done:], rest, strict=True))


def test_only_the_groups_that_are_needed_are_read(folder, monkeypatch):
    monkeypatch.setattr(mixed, "MIXED", 3200)  # 200 rows or fewer: a block or two
    module = opened(folder, scale="none")
    shards, read = module.splits["train"].examples.file, []
    taken = shards.taken
    monkeypatch.setattr(shards, "taken", lambda rows: read.append(len(rows)) or taken(rows))
    batches = module.shuffled("train", 100, lambda: 0)
    batches.done = 20
    next(iter(batches))
    assert sum(read) < 700
    assert max(read) <= 256


@pytest.mark.parametrize("parts", [2, 3, 7])
@pytest.mark.parametrize("buffer", [1, 500, 5000])
def test_several_processes_share_each_batch(folder, monkeypatch, parts, buffer):
    monkeypatch.setattr(mixed, "MIXED", buffer)
    module = opened(folder, scale="none", validation_size=317)
    whole = in_training(module)
    shares = [in_training(module, part=(rank, parts)) for rank in range(parts)]
    for number, batch in enumerate(whole):
        assert torch.equal(torch.cat([share[number] for share in shares]), batch)
    batches = module.shuffled("train", 100, lambda: 0)
    batches.part = (0, parts)
    weights = [batch.weight * len(batch.x) for batch in batches]
    assert weights[0] == pytest.approx(parts * len(shares[0][0]) ** 2 / 100)


def test_the_scale_is_one_number_that_brings_the_mean_norm_to_the_root_of_the_width(folder):
    module = opened(folder)
    x = torch.cat([batch.x for batch in module.batches("train")])
    assert x.norm(dim=1).mean() == pytest.approx(WIDTH**0.5, rel=0.01)
    assert module.card.scale.shape == module.card.shift.shape == ()
    assert module.card.shift == 0
    rows = module.splits["train"].rows[:50]
    stored = module.splits["train"].examples.taken(rows)
    torch.testing.assert_close(x[:50], stored.float() / module.card.scale.float())
    restored = module.card.restored(x[:50])
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, stored.float(), rtol=1e-6)
    again = card_of(module.card.kind, module.card.state())
    assert torch.equal(again.scaled(stored), x[:50])
    assert f"scaled by {1 / float(module.card.scale):.4g} to a mean norm of √8" in module.understood
    assert opened(folder, scale="none").card.scale == 1


def test_the_scale_is_that_of_the_training_rows_alone(folder, monkeypatch):
    module = opened(folder)
    held_out = module.splits["test"].rows[:]
    for number in range(4):
        path = folder / f"{number}.npy"
        rows, start = np.load(path), [0, 700, 1024, 2900][number]
        own = held_out[(held_out >= start) & (held_out < start + len(rows))] - start
        rows[own.numpy()] = 60_000
        np.save(path, rows)
    assert opened(folder).card.scale == module.card.scale


@pytest.mark.parametrize("kind", ["mask", "numbers"])
def test_rows_are_dropped_by_a_mask_or_by_their_numbers(folder, tmp_path_factory, kind):
    dropped = np.random.default_rng(0).permutation(COUNT)[:1000]
    mask = np.isin(np.arange(COUNT), dropped)
    path = tmp_path_factory.mktemp("mask") / "drop.npy"
    np.save(path, mask if kind == "mask" else dropped)
    module = opened(folder, scale="none", drop=str(path))
    assert "2,000 rows without 1,000 that are left out" in module.understood
    found = torch.cat([*in_training(module), *(numbers(b.x) for b in module.batches("test"))])
    found = torch.cat([found, *(numbers(b.x) for b in module.batches("validation"))])
    assert torch.equal(found.sort()[0], torch.from_numpy(np.flatnonzero(~mask)))


def test_numbers_that_come_again_are_no_rows_to_drop(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("mask") / "mask.npy"
    np.save(place, np.zeros(COUNT, np.uint8))
    with pytest.raises(SettingError, match=rf"has {COUNT - 1:,} numbers again; a mask \({COUNT},"):
        opened(folder, drop=str(place))


def test_few_rows_are_all_looked_at_as_often_as_each_other():
    rows = torch.arange(100, 130)
    looked_at = spread(rows, 70)
    assert len(looked_at) == 70
    assert set(looked_at.bincount(minlength=130)[100:].tolist()) <= {2, 3}
    assert sorted(spread(rows, 30).tolist()) == rows.tolist()


def test_what_is_looked_at_before_a_training_is_a_sample(folder, monkeypatch):
    monkeypatch.setattr(activations, "SAMPLED", 512)
    module = opened(folder, scale="none")
    shards, read = module.splits["train"].examples.file, []
    taken = shards.taken
    monkeypatch.setattr(shards, "taken", lambda rows: read.append(len(rows)) or taken(rows))
    values, mean = module.values(), module.mean()
    assert sum(read) == 2 * 512
    assert (values.min(), len(values)) == (min(values[0], 0), 3)
    every = torch.cat([batch.x for batch in module.batches("train")])
    torch.testing.assert_close(mean, every.mean(0), rtol=0, atol=1.5)
    for count in (1, 7, 600, 5000):
        some = numbers(module.some(count))
        assert len(some) == count
        assert set(some.tolist()) <= set(module.splits["train"].rows[:].tolist())
    assert len(set(numbers(module.some(600)).tolist())) == 600


def refused(folder, **settings):
    with pytest.raises(SettingError) as refusal:
        opened(folder, **settings)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_settings_that_cannot_work(folder, tmp_path_factory):
    few = refused(folder, batch_size=5000)
    assert few == "dataset.batch_size=5000: there are 2,400 rows to train on"
    assert "dataset.batch_size=null: must be a whole number" in refused(folder, batch_size=None)
    assert "activations are not binarized" in refused(folder, binarize="fixed")
    assert "the data has no labels" in refused(folder, classes=[3])
    assert "dataset.scale=standard: must be one of none, norm" in refused(folder, scale="standard")
    assert "must leave examples to train on" in refused(folder, validation_size=2990)
    assert "holds one array without a name" in refused(folder, key="x")
    path = tmp_path_factory.mktemp("mask") / "drop.npy"
    for drop, told in (
        (np.zeros(5, bool), "is bool of shape (5,); must be a mask of booleans (3000,), or"),
        (np.array([3, COUNT]), "has numbers beyond the 3,000 rows, 0 to 2,999"),
        (np.array([-1]), "has numbers beyond the 3,000 rows"),
        (np.zeros(5), "is float64 of shape (5,)"),
        (np.ones(COUNT, bool), "leaves no row"),
    ):
        np.save(path, drop)
        assert told in refused(folder, drop=str(path))
    assert "dataset.drop=nothing.npy: no such file" in refused(folder, drop="nothing.npy")
    for number in range(4):
        file = folder / f"{number}.npy"
        np.save(file, np.zeros_like(np.load(file)))
    assert "all rows are 0; set dataset.scale=none" in refused(folder)
