"""Batches are slices of the bytes in memory, and chance comes from the seeds that are named."""

from types import SimpleNamespace

import pytest
import torch

from aecli.data import DataModule, Digits, Examples
from aecli.errors import SettingError, shortened
from tests.data.grey import Grey, Half, make

BINARIZED = ["round", "fixed", "dynamic"]
SIZES = {"train": [16] * 5, "validation": [16, 4], "test": [16, 14]}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def loader(module, name):
    return {
        "train": module.train_dataloader,
        "validation": module.val_dataloader,
        "test": lambda: module.batches("test"),
    }[name]()


def whole(batches):
    """Return a whole pass as one batch, in the order of the labels."""
    tensors = zip(*((batch.x, batch.original, batch.label) for batch in batches), strict=True)
    x, image, label = (torch.cat(parts) for parts in tensors)
    order = label.argsort()
    return x[order], image[order], label[order]


def labels(batches):
    return torch.cat([batch.label for batch in batches]).tolist()


def binary(x):
    return bool(((x == 0) | (x == 1)).all())


def at(module, epoch):
    module.trainer = SimpleNamespace(current_epoch=epoch, global_rank=0, world_size=1)
    return module


@pytest.mark.parametrize("maximum", [16, 255])
@pytest.mark.parametrize(("name", "sizes"), SIZES.items())
def test_batches_are_slices(name, sizes, maximum):
    source = Grey(maximum=maximum)
    batches = loader(make(source), name)
    assert len(batches) == len(sizes)
    assert [len(batch.label) for batch in batches] == sizes
    for batch in batches:
        assert torch.equal(batch.original, source.images(batch.label))
        assert torch.equal(batch.x, batch.original)
        assert batch.original.dtype == torch.float32
        assert batch.label.dtype == torch.int64


def test_test_split_keeps_its_order():
    module = make()
    assert labels(module.batches("test")) == list(range(100, 130))
    assert [len(batch.x) for batch in module.batches("test", 25)] == [25, 5]


def test_digits():
    module = DataModule(Digits(), None, [1, 8, 8], 32, 200)
    module.setup()
    sizes = {name: len(labels(module.batches(name))) for name in module.splits}
    assert sizes == {"train": 1237, "validation": 200, "test": 360}
    x = torch.cat([batch.x for batch in module.train_dataloader()])
    assert x.shape[1:] == module.shape
    assert torch.equal(x.unique(), torch.arange(17) / 16)


def test_validation_split():
    torch.manual_seed(1)
    first = make()
    validation, train = labels(first.val_dataloader()), labels(first.batches("train"))
    assert sorted(validation + train) == list(range(100))
    assert len(validation) == 20
    torch.manual_seed(2)
    assert labels(make().val_dataloader()) == validation
    assert sorted(labels(make(split_seed=1).val_dataloader())) != sorted(validation)


def test_train_order():
    torch.manual_seed(1)
    module = at(make(), 3)
    batches = module.train_dataloader()
    order = labels(batches)
    assert sorted(order) == sorted(labels(module.batches("train")))
    assert order != sorted(order)
    torch.rand(1)  # what the run has drawn so far must not matter
    assert labels(batches) == order
    assert labels(at(module, 4).train_dataloader()) != order
    assert labels(batches) != order  # Lightning asks for the loader once and goes on to epoch 4
    torch.manual_seed(2)
    assert labels(at(make(), 3).train_dataloader()) != order
    torch.manual_seed(1)
    assert labels(at(make(), 3).train_dataloader()) == order


def test_train_order_without_trainer():
    torch.manual_seed(1)
    order = labels(make().train_dataloader())
    assert labels(at(make(), 0).train_dataloader()) == order


@pytest.mark.parametrize("maximum", [16, 255])
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("binarize", ["fixed", "dynamic"])
def test_binarized(binarize, name, maximum):
    source = Grey(maximum=maximum)
    x, image, label = whole(loader(make(source, binarize=binarize), name))
    assert x.dtype == torch.float32
    assert binary(x)
    assert torch.equal(image, source.images(label))
    assert (x[:, 0, 0, 0] == 0).all()
    assert (x[:, 0, 0, 1] == 1).all()
    assert len(image.unique()) > 10
    error = (image * (1 - image)).sum().sqrt() / x.numel()
    assert (x.mean() - image.mean()).abs() < 4 * error
    assert not torch.equal(x, image.round())


@pytest.mark.parametrize("maximum", [16, 255])
@pytest.mark.parametrize("name", SIZES)
def test_round(name, maximum):
    source = Grey(maximum=maximum)
    x, image, label = whole(loader(make(source, binarize="round"), name))
    assert torch.equal(x, (image >= 0.5).float())
    assert torch.equal(image, source.images(label))


@pytest.mark.parametrize("name", SIZES)
def test_fixed(name):
    torch.manual_seed(1)
    module = make(binarize="fixed")
    x, *_ = whole(loader(module, name))
    torch.manual_seed(2)
    for again in (at(module, 1), make(binarize="fixed")):
        assert torch.equal(whole(loader(again, name))[0], x)
    assert not torch.equal(whole(loader(make(binarize="fixed", binarize_seed=1), name))[0], x)


def test_dynamic():
    torch.manual_seed(1)
    module, fixed = make(binarize="dynamic"), make(binarize="fixed")
    x, *_ = whole(at(module, 3).train_dataloader())
    torch.rand(1)
    assert torch.equal(whole(at(module, 3).train_dataloader())[0], x)
    assert not torch.equal(whole(at(module, 4).train_dataloader())[0], x)
    torch.manual_seed(2)
    assert not torch.equal(whole(at(make(binarize="dynamic"), 3).train_dataloader())[0], x)
    for name in ("validation", "test"):
        assert torch.equal(whole(loader(module, name))[0], whole(loader(fixed, name))[0])


def test_dynamic_mean():
    module = make(batch_size=100, binarize="dynamic")
    passes = 400
    total = 0
    for epoch in range(passes):
        x, image, _ = whole(at(module, epoch).train_dataloader())
        total = total + x
    error = total / passes - image
    variance = image * (1 - image) / passes
    grey = variance > 0
    assert (error[~grey] == 0).all()
    assert (error[grey].abs() / variance[grey].sqrt()).max() < 5.5  # of some 1,100 pixels
    assert error.sum().abs() < 4 * variance.sum().sqrt()


@pytest.mark.parametrize("binarize", ["fixed", "dynamic"])
def test_draws_differ_between_images(binarize):
    module = make(Half(2 * 4096 + 20), batch_size=4096, binarize=binarize)
    passes = {"fixed": module.batches("train"), "dynamic": module.train_dataloader()}
    one, two = (batch.x for batch in passes[binarize])
    assert not torch.equal(one, two)  # a seed that is used again for each 4,096 images


def test_draws_differ_between_splits():
    module = make(Half(40), binarize="fixed")
    train, validation, test = (next(iter(module.batches(name))).x for name in SIZES)
    assert not torch.equal(train, validation)
    assert not torch.equal(train, test)
    assert not torch.equal(validation, test)


@pytest.mark.parametrize(("maximum", "levels"), [(16, 17), (255, 256)])
def test_values(maximum, levels):
    module = make(Grey(500, maximum))
    assert torch.equal(module.values(), torch.arange(levels) / maximum)
    assert torch.equal(module.values(), whole(module.train_dataloader())[0].unique())


def test_values_are_those_of_training():
    source = Grey()
    source.pixels[:100] = 255
    assert make(source).values().tolist() == [1]


@pytest.mark.parametrize("binarize", BINARIZED)
def test_values_binarized(binarize):
    assert make(binarize=binarize).values().tolist() == [0, 1]


@pytest.mark.parametrize("binarize", ["none", *BINARIZED])
def test_the_mean_is_that_of_what_training_draws(binarize):
    module = make(Grey(9000), binarize=binarize)
    if binarize == "dynamic":
        expected = whole(module.train_dataloader())[1].mean(dim=0)
    else:
        expected = whole(module.train_dataloader())[0].mean(dim=0)
    assert torch.allclose(module.mean(), expected, atol=1e-6)
    assert module.mean().shape == module.card.shape


BAD = [
    ("batch_size", 0),
    ("batch_size", 1.5),
    ("batch_size", True),
    ("batch_size", "32"),
    ("validation_size", 0),
    ("validation_size", 100),
    ("validation_size", 1000),
    ("split_seed", -1),
    ("binarize", "foo"),
    ("binarize", None),
    ("binarize_seed", -1),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_bad_setting(key, value):
    with pytest.raises(SettingError, match=f"^dataset.{key}={shortened(value)}: must "):
        make(**{key: value})


def test_largest_validation_size():
    assert len(labels(make(validation_size=99).train_dataloader())) == 1


@pytest.mark.parametrize("binarize", ["none", "fixed", "dynamic"])
@pytest.mark.parametrize("part", [(0, 1), (1, 3)])
def test_batches_are_the_same_however_many_are_prepared_at_once(monkeypatch, binarize, part):
    passes = []
    for at_once in (1, 1000):
        monkeypatch.setattr("aecli.data.batches.PREPARED_AT_ONCE", at_once)
        batches = make(binarize=binarize, batch_size=17).shuffled("train", 17, lambda: 0)
        batches.part = part
        passes.append(list(batches))
    for one, other in zip(*passes, strict=True):
        assert all(torch.equal(mine, its) for mine, its in zip(one[:3], other[:3], strict=True))
        assert one.weight == other.weight


def test_a_training_has_no_test_split():
    module = DataModule(Grey(), None, [1, 4, 4], 16, 20)
    module.setup("fit")
    assert set(module.splits) == {"train", "validation"}


def test_setup_loads_once():
    module = make()
    splits = module.splits
    module.setup("test")
    assert module.source.loads == 1
    assert module.splits is splits


@pytest.mark.parametrize(("free", "moved"), [(4 * 130 * 16, True), (4 * 130 * 16 - 1, False)])
def test_moves_where_there_is_room(monkeypatch, free, moved):
    module = make()
    went = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    monkeypatch.setattr(Examples, "to", lambda examples, device: went.append(device) or examples)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor)
    module.move(torch.device("cuda", 1))
    assert went == [torch.device("cuda", 1)] * moved


def test_no_batch_size_is_the_whole_training_set():
    module = make(batch_size=None)
    assert [len(batch.x) for batch in module.train_dataloader()] == [80]
    assert [len(batch.x) for batch in module.val_dataloader()] == [20]
