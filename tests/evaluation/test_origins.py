"""Where rows come from: in shards, some of whose rows are left out."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf

from aecli.build import build
from aecli.evaluation.origins import AFTER, BEFORE, Origins, _told_apart
from tests.conftest import configure

SIZES = (300, 500, 200)
D, LENGTH = 4, 128


@pytest.fixture
def loaded(tmp_path):
    """Return something like a run on three shards, the second of which has no tokens."""
    generator = np.random.default_rng(0)
    (tmp_path / "vocabulary.json").write_text(json.dumps([f"{n} " for n in range(1000)]))
    first = 0
    for number, size in enumerate(SIZES):
        values = generator.normal(size=(size, D)).astype(np.float16)
        np.save(tmp_path / f"{number}.npy", values)
        if number != 1:
            tokens = np.arange(first, first + size)
            pairs = np.stack([tokens, tokens % LENGTH], axis=1).astype(np.int32)
            np.save(tmp_path / f"{number}.tokens.npy", pairs)
        first += size
    np.save(tmp_path / "drop.npy", np.arange(0, 1000, 7))
    config, _ = configure(
        "dataset=activations",
        f"dataset.files='{tmp_path}/?.npy'",
        f"dataset.drop={tmp_path}/drop.npy",
        "dataset.test_size=400",
        "dataset.validation_size=50",
        "dataset.batch_size=64",
    )
    data = build(config, "dataset")
    data.setup()
    return SimpleNamespace(data=data, config=OmegaConf.create({"dataset": config.dataset}))


def test_a_row_is_found_in_its_file_with_the_text_around_it(loaded, tmp_path):
    split, origins = loaded.data.splits["test"], Origins(loaded)
    values = split.values.numpy()
    starts = dict(zip(("0.npy", "1.npy", "2.npy"), np.cumsum([0, *SIZES[:-1]]), strict=True))
    seen = set()
    for place in range(len(split)):
        file, row, context = origins.of(place)
        seen.add(file)
        assert (np.load(tmp_path / file)[int(row)] == values[place]).all()
        if file == "1.npy":
            assert context is None
            continue
        token = starts[file] + int(row)
        low = max(starts[file], token - token % LENGTH, token - BEFORE)
        end = min(starts[file] + SIZES[int(file[0])], token - token % LENGTH + LENGTH)
        end = min(end, token + AFTER + 1)
        assert context.token == f"{token} "
        assert context.before == "".join(f"{n} " for n in range(low, token))
        assert context.after == "".join(f"{n} " for n in range(token + 1, end))
    assert seen == set(starts)


def test_files_of_one_name_are_told_by_their_folders():
    paths = [Path(f"/acts/{place}/00000.npy") for place in ("a", "b/c")]
    assert _told_apart(paths) == ["a/00000.npy", "b/c/00000.npy"]
    assert _told_apart([Path("a/0.npy"), Path("b/1.npy")]) == ["0.npy", "1.npy"]
    assert _told_apart([]) == []


def test_without_a_vocabulary_tokens_are_numbers(loaded, tmp_path):
    (tmp_path / "vocabulary.json").unlink()
    origins = Origins(loaded)
    found = next(o for o in map(origins.of, range(400)) if o.file == "0.npy")
    assert found.context.token == f"⟨{found.row}⟩"
