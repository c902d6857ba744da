"""Which image is in which split, under all sizes and classes."""

import itertools

import pytest
import torch

from aecli.errors import SettingError
from tests.data.grey import Grey, make


def kept(module, name):
    return module.splits[name].labels.tolist()


def test_train_size_draws_from_what_validation_leaves():
    whole, part = make(), make(train_size=10)
    assert kept(part, "validation") == kept(whole, "validation")
    assert len(kept(part, "train")) == 10
    assert set(kept(part, "train")) < set(kept(whole, "train"))
    assert kept(part, "test") == kept(whole, "test")
    assert kept(make(train_size=10, split_seed=1), "train") != kept(part, "train")


def test_test_size_shares_out_both_sets_without_overlap():
    module = make(train_size=50, test_size=60)
    parts = [kept(module, name) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [50, 20, 60]
    everything = [label for part in parts for label in part]
    assert len(set(everything)) == 130
    assert max(parts[0]) >= 100  # from the test set
    assert min(parts[2]) < 100  # from the training set


def test_classes_filter_every_split():
    class Three(Grey):
        def labels(self):
            return super().labels() % 3

    module = make(Three(), classes=[0, 2])
    assert all(set(kept(module, name)) == {0, 2} for name in module.splits)
    assert len(kept(module, "test")) == 20
    # Of the 20 images of the validation split, those of the two classes.
    assert 5 < len(kept(module, "validation")) < 20
    with pytest.raises(SettingError, match=r"dataset\.classes=\[3\]: must be .* \[0, 1, 2\]"):
        make(Three(), classes=[3])
    with pytest.raises(SettingError, match=r"dataset\.classes=\[\]"):
        make(Three(), classes=[])


class Ten(Grey):
    """Ten classes in no order; the first pixels tell the row."""

    def read(self, root, card):
        self.pixels[:, 0, 3, 3] = torch.arange(len(self.pixels))
        return super().read(root, card)

    def labels(self):
        generator = torch.Generator().manual_seed(1)
        return torch.randint(10, (len(self.pixels),), generator=generator)


SPLITS = {
    "validation_size": [15, 40],
    "test_size": [None, 60],
    "classes": [None, [0, 1, 2, 3, 4], [3, 4, 5, 6, 7, 8]],
    "train_size": [None, 5],
    "split_seed": [0, 1],
}


def test_no_example_is_in_two_splits_whatever_classes_and_sizes_are_asked_for():
    by_split = {}
    for values in itertools.product(*SPLITS.values()):
        settings = dict(zip(SPLITS, values, strict=True))
        module = make(Ten(200), **settings)
        ids = {name: set(split.ids.tolist()) for name, split in module.splits.items()}
        for name, split in module.splits.items():
            assert split.values[:, 0, 3, 3].tolist() == split.ids.tolist()
            assert len(ids[name]) == len(split)
            if settings["classes"]:
                assert set(split.labels.tolist()) <= set(settings["classes"])
        kept = {key: settings[key] for key in ("validation_size", "test_size", "split_seed")}
        by_split.setdefault(tuple(kept.items()), []).append(ids)
    assert len(by_split) == 8
    for several in by_split.values():
        assert len(several) > 1
        # Not within a run, nor between a run and its evaluation with other classes or fewer images.
        for one, other in itertools.product(several, several):
            for mine, its in itertools.permutations(one, 2):
                assert not one[mine] & other[its]


def test_splits_without_classes_are_those_of_versions_before():
    module = make()
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert module.splits["validation"].ids.tolist() == order[:20].tolist()
    assert module.splits["train"].ids.tolist() == sorted(order[20:].tolist())
    assert module.splits["test"].ids.tolist() == list(range(100, 130))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_size": 81}, "train_size=81: must leave .* of the 100"),
        ({"train_size": 0}, "train_size=0: must be a whole number"),
        ({"test_size": 120}, "test_size=120: must leave .* of the 130"),
        ({"validation_size": 100}, "validation_size=100.*of the 100"),
        ({"classes": 3}, "classes=3: must be a list"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        make(**settings)
