"""What a checkpoint may do to a training that goes on with it: nothing but go on."""

import math
import random
from pathlib import Path

import pytest
import torch

from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.runs import rebuilt as module
from aecli.runs.checkpoint import KEY, AtomicCheckpointIO, read, stored
from aecli.runs.paths import LAST, checkpoint_path
from tests.conftest import configure, slow_unless
from tests.hostile import (
    DROPPED,
    STRANGE,
    at,
    bounded,
    changed,
    is_one_plain_line,
    mutations,
    paths,
    refusal,
)

# Lightning wonders at the folder of a run to go on with: it holds checkpoints already.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")

KINDS = {
    "adam": ("model=vae", "optimizer.schedule=cosine", "early_stopping.patience=9"),
    "sgd": ("model=ae", "optimizer=sgd", "optimizer.momentum=0.9"),
    "lbfgs": ("model=ae", "optimizer=lbfgs", "dataset.batch_size=null"),
    "sparse": ("model=sparse_ae", "sparsity.momentum=0.9", "optimizer=adagrad"),
    "pca": ("model=pca",),
    "average": ("model=ae", "trainer.average=0.9", "network.batch_norm=true"),
}
VARYING = ("BestEpoch", "KeepRandomState", "EpochCheckpoint")
CASES = 500
"""Mutations tried of each kind of checkpoint."""


def trained(directory, kind, epochs=1, last=None):
    small = () if kind == "pca" else ("network.hidden=[8]",)
    config, choices = configure(
        "trainer=debug", f"trainer.max_epochs={epochs}", "pictures_every=0", *small, *KINDS[kind]
    )
    train(config, directory, choices, last)
    return checkpoint_path(directory, LAST)


@pytest.fixture(
    scope="module", params=[slow_unless(kind in ("adam", "average"), kind) for kind in KINDS]
)
def run(request, tmp_path_factory):
    """Return the kind of a checkpoint and its path."""
    directory = tmp_path_factory.mktemp(request.param)
    return request.param, trained(directory, request.param)


def foreign_paths(tree, directory):
    """Return the texts in a tree that are paths, but neither `directory` nor in it."""
    texts = [at(tree, path) for path in paths(tree)] + [path[-1] for path in paths(tree)]
    return [
        text
        for text in texts
        if isinstance(text, str)
        and ("/" in text and "val/" not in text)
        and directory not in (Path(text), Path(text).parent)
    ]


def test_nothing_of_a_changed_checkpoint_reaches_lightning_unchecked(run, monkeypatch):
    kind, path = run
    original = read(path)
    outcomes = []

    def load(self, _, **kwargs):
        generator = mutations(original, random.Random(0))
        for _ in range(CASES):
            place, made = next(generator)
            taken = None

            def rebuild(made=made):
                nonlocal taken
                taken = self.rebuilt(made, path)

            with bounded(seconds=1):
                outcomes.append(refusal(rebuild))
            if taken is not None:
                assert not foreign_paths(taken, path.parent), place
                own = fixed(self.rebuilt(original, path))
                assert same_build(fixed(taken), own), place
        return self.rebuilt(original, path)

    monkeypatch.setattr(AtomicCheckpointIO, "load_checkpoint", load)
    trained(path.parent.parent, kind, epochs=2, last=path)
    assert len(outcomes) == CASES
    assert outcomes.count(None) < CASES / 2


def fixed(taken):
    """Leave out what varies: names of metrics, the number of processes, a best score or none."""
    states = {k: v for k, v in taken["callbacks"].items() if k.split("{")[0] not in VARYING}
    return taken | {"callbacks": states}


def same_build(one, other):
    """Tell whether two trees have the same keys, lengths, shapes and types."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_build(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_build, one, other))
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and one.is_contiguous()
    finite = not isinstance(one, float) or math.isfinite(one)
    return type(one) is type(other) and finite


def resumed(path, made):
    """Go on with a changed checkpoint in the place of the original."""
    torch.save(made, path)
    config = stored(path).config
    config.trainer.max_epochs = 2
    train(config, path.parent.parent, stored(path).choices, path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_training_goes_on_or_refuses_by_one_line(run, tmp_path, seed):
    """The whole way, with random parts of the configuration changed, too."""
    _, path = run
    generator = random.Random(seed)
    made = original = read(path)
    (tmp_path / "checkpoints").mkdir()
    if seed % 2:
        place = generator.choice([p for p in paths(original) if p[0] == KEY])
        made = changed(original, place, generator.choice([DROPPED, *STRANGE]))
    else:
        _, made = next(mutations(original, generator))
    reason = refusal(resumed, tmp_path / "checkpoints" / "last.ckpt", made)
    if reason and not seed % 2:  # never in the words of Lightning
        assert reason.startswith(("resume", "run=")), reason


@pytest.fixture(scope="module")
def adam(tmp_path_factory):
    return read(trained(tmp_path_factory.mktemp("adam"), "adam"))


def first(checkpoint, name):
    return next(
        key for key in checkpoint["callbacks"] if key.startswith(name) and "val/loss" in key
    )


def test_best_model_path_deletes_nothing(adam, tmp_path):
    """Lightning removed whatever the file named, recursively."""
    docs, run = tmp_path / "docs", tmp_path / "gift"
    docs.mkdir()
    (docs / "mine").write_text("mine")
    (run / "checkpoints").mkdir(parents=True)
    key = first(adam, "EpochCheckpoint")
    for target in (str(docs), f"{run}/checkpoints/../../docs"):
        state = {
            "dirpath": f"{run}/checkpoints",
            "best_model_path": target,
            "kth_best_model_path": target,
            "last_model_path": target,
            "best_k_models": {target: torch.tensor(1e9)},
            "best_model_score": torch.tensor(1e9),
        }
        made = changed(adam, ("callbacks", key), adam["callbacks"][key] | state)
        resumed(run / "checkpoints" / "last.ckpt", made)
        assert (docs / "mine").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "gift"]


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "step"])
@pytest.mark.parametrize("number", [0, 3])
def test_moments_of_another_shape_are_no_segmentation_fault(adam, tmp_path, name, number):
    """The fused optimizer read beyond the end of `exp_avg = torch.zeros(1)`."""
    (tmp_path / "checkpoints").mkdir()
    path = ("optimizer_states", 0, "state", number, name)
    with pytest.raises(
        SettingError, match=rf"optimizer_states: {number}\.{name}: must be a tensor"
    ):
        resumed(tmp_path / "checkpoints" / "last.ckpt", changed(adam, path, torch.zeros(5)))


@pytest.mark.parametrize(
    "part", ["state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", "epoch"]
)
@pytest.mark.parametrize(
    "value", [DROPPED, None, [], {}, "x"], ids=["dropped", "null", "list", "dict", "text"]
)
def test_a_part_that_is_missing_or_wrong_is_named(adam, tmp_path, part, value):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(SettingError, match=part if part != "state_dict" else "weights") as refused:
        resumed(tmp_path / "checkpoints" / "last.ckpt", changed(adam, (part,), value))
    assert is_one_plain_line(refused.value)


def test_a_random_state_that_is_none_is_refused(adam, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for state in (torch.zeros(3, dtype=torch.uint8), torch.zeros(5056, dtype=torch.uint8), None):
        made = changed(adam, ("callbacks", "KeepRandomState", "processes", 0, "cpu"), state)
        with pytest.raises(SettingError, match="KeepRandomState: is no state"):
            resumed(tmp_path / "checkpoints" / "last.ckpt", made)


LOOP = ("loops", "fit_loop")
EPOCHS, BATCHES = (*LOOP, "epoch_progress"), (*LOOP, "epoch_loop.batch_progress")
STEPS = (*LOOP, "epoch_loop.automatic_optimization.optim_progress", "optimizer", "step")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({(*EPOCHS, "current", "completed"): 10**9}, "epoch_progress: more completed than ready"),
        ({(*BATCHES, "current", "ready"): 10**9}, "batch_progress: its total is less than"),
        ({(*BATCHES, "total", "ready"): 0}, "batch_progress: more completed than ready"),
        ({("epoch",): 10**9}, "epoch=1000000000: loops.epoch_progress says 0"),
        ({("epoch",): 1}, "epoch=1: loops.epoch_progress says 0"),
        (
            {(*EPOCHS, "total"): 10**9, (*EPOCHS, "current"): 10**9, ("epoch",): 10**9},
            "has trained 1000000000 epochs, of 2 in all",
        ),
        ({("global_step",): 10**9}, "global_step=1000000000: loops disagrees"),
        (
            {("global_step",): 10**9, (*STEPS, "total"): 10**9},
            "global_step=1000000000: loops disagrees, with 10 batches",
        ),
    ],
)
def test_counters_that_contradict_each_other_are_refused(adam, tmp_path, changes, told):
    (tmp_path / "checkpoints").mkdir()
    made = adam
    for place, value in changes.items():
        counts = at(made, place)
        all_of_them = dict.fromkeys(counts, value) if isinstance(counts, dict) else value
        made = changed(made, place, all_of_them)
    with pytest.raises(SettingError, match=told) as refused:
        resumed(tmp_path / "checkpoints" / "last.ckpt", made)
    assert str(refused.value).startswith("resume=")
    assert is_one_plain_line(refused.value)


KL_OF_MANY_UNITS = {
    "_target_": "aecli.sparsity.KL",
    "units": 10**9,
    "target": 0.1,
    "weight": 1.0,
    "momentum": 0.9,
}


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"code_dim": 10**9}},
        {"network": {"hidden": [10**9]}, "model": {"network": {"hidden": [10**9]}}},
        {"model": {"sparsity": KL_OF_MANY_UNITS}},
    ],
)
def test_a_model_that_is_larger_than_its_weights_takes_no_memory(adam, tmp_path, settings):
    config = adam[KEY]["config"]
    for group, values in settings.items():
        merged = {
            key: config[group][key] | value if isinstance(value, dict) else value
            for key, value in values.items()
        }
        config = config | {group: config[group] | merged}
    path = tmp_path / "a.ckpt"
    torch.save(changed(adam, (KEY, "config"), config), path)
    with bounded(), pytest.raises(SettingError) as refused:
        stored(path)
    assert is_one_plain_line(refused.value)


def test_a_configuration_of_a_million_entries_is_refused_at_once(adam, tmp_path):
    path = tmp_path / "a.ckpt"
    for many in ({f"a{i}": i for i in range(10**6)}, [[0] * 100] * 5000, ["a" * 10**6]):
        torch.save(changed(adam, (KEY, "config", "seed"), many), path)
        with bounded(), pytest.raises(SettingError) as refused:
            stored(path)
        assert is_one_plain_line(refused.value)


def test_what_a_checkpoint_says_of_itself_cannot_act_on_a_terminal(adam, tmp_path):
    path = tmp_path / "a.ckpt"
    made = changed(adam, (KEY, "version"), "\x1b]0;x\x07\n" * 100)
    torch.save(changed(made, (KEY, "config", "model"), None), path)
    with pytest.raises(SettingError) as refused:
        stored(path)
    assert is_one_plain_line(refused.value)


@pytest.mark.parametrize("value", STRANGE, ids=lambda v: repr(v)[:20].encode("unicode_escape"))
@pytest.mark.parametrize("known", [0, 0.5, True, torch.zeros(2), {"a": 1}, [1, 2]], ids=repr)
def test_like_takes_only_the_same_build(known, value):
    reason = refusal(module.like, known, value, "x")
    assert reason or same_build(module.like(known, value, "x"), known)
    assert not reason or reason.startswith("x")


def test_like_takes_no_text():
    assert module.like("mine", "../../docs", "x") == "mine"
    assert module.like(None, "../../docs", "x") is None
