"""Targets of activations: read beside their rows, in the same order, by a scale of their own."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from aecli.data import ActivationData, TargetCard, mixed
from aecli.data.records import card_of
from aecli.errors import SettingError

COUNT, WIDTH, MADE = 3000, 8, 5
CUTS = [700, 1024, 2900]


@pytest.fixture
def folder(tmp_path):
    """Return a folder with rows that say their own number, and targets that say minus that."""
    numbers = np.arange(COUNT, dtype=np.float32)
    draw = np.random.default_rng(0)
    rows = draw.normal(1, 3, (COUNT, WIDTH)).astype(np.float32)
    targets = draw.normal(1, 9, (COUNT, MADE)).astype(np.float16)
    rows[:, 0] = numbers
    targets[:, 0], targets[:, 1] = numbers // 32, numbers % 32
    for name, array in {"x": rows, "y": targets}.items():
        (tmp_path / name).mkdir()
        for number, part in enumerate(np.split(array, CUTS)):
            np.save(tmp_path / name / f"{number}.npy", part)
    return tmp_path


def opened(folder, **settings):
    given = {"files": f"{folder}/x/*.npy", "targets": f"{folder}/y/*.npy", "scale": "none"}
    module = ActivationData(
        **{"shape": None, "validation_size": None, "batch_size": 100} | given | settings
    )
    module.setup()
    return module


def numbers(batch):
    """Return the numbers that the rows of a batch say, which must be those of its targets."""
    said = batch.x[:, 0].long()
    assert torch.equal(said, (batch.target[:, 0] * 32 + batch.target[:, 1]).long())
    assert batch.target.shape == (len(said), MADE)
    assert batch.given == (batch.target, batch.x)
    assert batch.wanted is batch.target
    return said


def in_training(module, seed=0, done=0, part=(0, 1)):
    batches = module.shuffled("train", 100, lambda: seed)
    batches.done, batches.part = done, part
    return [numbers(batch) for batch in batches]


@pytest.mark.parametrize("buffer", [5000, 1 << 30])
def test_each_row_comes_with_its_target(folder, monkeypatch, buffer):
    monkeypatch.setattr(mixed, "MIXED", buffer)
    module = opened(folder)
    whole = in_training(module)
    assert torch.equal(torch.cat(whole).sort()[0], module.splits["train"].rows[:])
    for name in ("validation", "test"):
        found = torch.cat([numbers(batch) for batch in module.batches(name, 33)])
        assert torch.equal(found, module.splits[name].rows[:])
    rest = in_training(module, done=7)
    assert all(torch.equal(*pair) for pair in zip(whole[7:], rest, strict=True))
    shares = [in_training(module, part=(rank, 2)) for rank in range(2)]
    for number, batch in enumerate(whole):
        assert torch.equal(torch.cat([share[number] for share in shares]), batch)
    some, targets = module.some(300), module.some_targets(300)
    assert torch.equal(some[:, 0].long(), (targets[:, 0] * 32 + targets[:, 1]).long())


def test_a_buffer_holds_both_and_each_block_is_read_once(folder, monkeypatch):
    monkeypatch.setattr(mixed, "MIXED", 512 * (4 * WIDTH + 2 * MADE))
    module = opened(folder)
    examples, read = module.splits["train"].examples, {}
    for name, shards in {"x": examples.file, "y": examples.targets.file}.items():
        taken, read[name] = shards.taken, []

        def watched(rows, taken=taken, name=name):
            read[name].append(rows)
            return taken(rows)

        monkeypatch.setattr(shards, "taken", watched)
    in_training(module)
    assert max(map(len, read["x"])) <= 512
    for rows, others in zip(read["x"], read["y"], strict=True):
        assert torch.equal(rows, others)
    assert sum(map(len, read["y"])) == len(module.splits["train"])


def test_dropped_rows_take_their_targets_along(folder):
    drop = np.random.default_rng(0).permutation(COUNT)[:1000]
    np.save(folder / "drop.npy", drop)
    module = opened(folder, drop=str(folder / "drop.npy"))
    found = torch.cat([*in_training(module), *(numbers(b) for b in module.batches("test"))])
    assert not np.isin(found.numpy(), drop).any()


def test_targets_have_a_scale_of_their_own_and_leave_in_their_units(folder):
    module = opened(folder, scale="norm")
    card, batches = module.card, list(module.batches("train"))
    x, y = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("x", "target"))
    assert x.norm(dim=1).mean() == pytest.approx(WIDTH**0.5, rel=0.01)
    assert y.norm(dim=1).mean() == pytest.approx(MADE**0.5, rel=0.01)
    assert isinstance(card, TargetCard)
    assert (card.shape, card.target_shape, card.made_shape) == ((WIDTH,), (MADE,), (MADE,))
    again = card_of(card.kind, card.state())
    split = module.splits["train"]
    rows, targets = split.values[:9], split.examples.targets.taken(split.rows[:9])
    for one in (card, again):
        torch.testing.assert_close(one.scaled(rows), x[:9])
        torch.testing.assert_close(one.entering(one.given(rows)), x[:9])
        np.testing.assert_allclose(one.restored(y[:9]), targets, rtol=1e-5)
        torch.testing.assert_close(one.leaving(y[:9]), targets.float(), rtol=1e-5, atol=1e-5)
    assert "targets of 5 numbers, float16" in module.understood
    assert f"targets by {1 / float(card.targets.scale):.4g} to a mean norm" in module.understood


def test_arrays_of_one_file_are_named_one_by_one(folder, tmp_path):
    draw = np.random.default_rng(0)
    arrays = {name: draw.normal(size=(400, n)).astype("f4") for name, n in (("a", 4), ("b", 6))}
    save_file(arrays, tmp_path / "both.safetensors")
    place = str(tmp_path / "both.safetensors")
    module = opened(folder, files=place, targets=place, key="a", target_key="b", batch_size=50)
    rows = module.splits["test"].rows[:].numpy()
    batch = next(iter(module.batches("test", 100)))
    for name, found in (("a", batch.x), ("b", batch.target)):
        np.testing.assert_array_equal(found, arrays[name][rows])
    assert "set dataset.target_key to one of a, b" in refused(
        folder, files=place, targets=place, key="a", batch_size=50
    )


def refused(folder, **settings):
    with pytest.raises(SettingError) as refusal:
        opened(folder, **settings)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_targets_that_are_not_those_of_the_rows_are_refused(folder):
    y = folder / "y"
    last = np.load(y / "3.npy")
    np.save(y / "3.npy", last[:-1])
    told = refused(folder)
    assert told.startswith("dataset.targets: ")
    rest = f"{folder}/x/3.npy 100; must have a target for each row"
    assert told.endswith(f"y/3.npy has 99 rows, and {rest}")
    (y / "3.npy").unlink()
    assert "has 3 shards, and dataset.files 4; must have one for each" in refused(folder)
    np.save(y / "3.npy", np.full_like(last, np.nan))
    with pytest.raises(SettingError, match=r"y/3\.npy: row \d+ has numbers that are not finite"):
        in_training(opened(folder))
    assert "dataset.files=null: must be a pattern" in refused(folder, files=None)
    assert "dataset.targets=no.npy: there is no such file" in refused(folder, targets="no.npy")
    assert "goes with dataset.targets" in refused(folder, targets=None, target_key="y")
    assert "holds one array without a name" in refused(folder, target_key="y")
    assert "the targets are [5]" in refused(folder, target_shape=[6])
    assert "there are no targets" in refused(folder, targets=None, target_shape=[5])


def test_a_run_takes_targets_of_its_own_width_or_none(folder):
    module = opened(folder)
    card = module.card

    def as_new(card, **settings):
        new = ActivationData(f"{folder}/x/1.npy", shape=None, validation_size=None, **settings)
        new.of_run(card, None)
        new.setup_new()
        return new

    assert not as_new(card).has_targets
    assert next(iter(as_new(card).batches("new"))).target is None
    assert as_new(card, targets=f"{folder}/y/1.npy").has_targets
    with pytest.raises(SettingError, match="has rows of 8 numbers; the run was trained on targets"):
        as_new(card, targets=f"{folder}/x/1.npy")
    with pytest.raises(SettingError, match="the run was trained without targets"):
        as_new(card.inputs, targets=f"{folder}/y/1.npy")
