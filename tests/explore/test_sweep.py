"""Several runs in one page: how they differ, in what order they come, which do not go together."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from aecli.commands import explore
from aecli.errors import SettingError
from aecli.explore.sweep import Sweep, sweep
from aecli.runs.find import Run
from tests.explore.made import loaded, page


def runs(folder, *lines):
    """Return runs of these settings, each of which says what was typed."""
    made = []
    for number, words in enumerate(lines):
        run = loaded(folder / str(number), *words)
        (run.run.directory / ".hydra").mkdir(parents=True)
        (run.run.directory / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(words)))
        made.append(run)
    return made


def test_numbers_are_ordered_by_size(tmp_path):
    found = sweep(runs(tmp_path, *[[f"model.beta={beta}"] for beta in (4, 16, 0.5)]))
    assert found.keys == ["model.beta"]
    assert found.labels == ["0.5", "4", "16"]
    assert [run.config.model.beta for run in found.runs] == [0.5, 4, 16]


def test_what_was_typed_comes_before_what_follows_from_it(tmp_path):
    lines = [["model=vae"], ["model=ae"]]  # they differ in the likelihood as well
    assert sweep(runs(tmp_path / "a", *lines)).keys == ["model"]
    lines = [["seed=1", "model.code_dim=2"], ["seed=0", "model.code_dim=4"]]
    assert sweep(runs(tmp_path / "b", *lines)).keys == ["seed", "model.code_dim"]


def test_names_are_in_the_order_of_the_runs(tmp_path):
    found = sweep(runs(tmp_path, ["model=vae"], ["model=ae"], ["model=pca"]))
    assert found.labels == ["vae", "ae", "pca"]


def test_a_run_is_told_by_what_was_typed_for_it(tmp_path):
    lines = [
        ["model=pca", "model.code_dim=8"],
        ["model=pca", "model.code_dim=2"],
        ["model=pca", "model.code_dim=2"],  # once more
        ["model=vae", "model.code_dim=2", "model.beta=4"],
        ["model=dae", "noise=gaussian"],
    ]
    assert sweep(runs(tmp_path / "a", *lines)).labels == [
        "model=pca model.code_dim=2",
        "model=pca model.code_dim=8",
        "model=vae model.code_dim=2 model.beta=4",
        "model=dae noise=gaussian",
    ]
    lines = [["model=dae"], ["model=dae", "noise=gaussian", "noise.std=0.5"]]
    first, second = sweep(runs(tmp_path / "b", *lines)).labels
    assert (first, second) == ("noise=masking", "noise=gaussian noise.std=0.5")


def test_checkpoints_of_one_run_are_told_by_their_names(tmp_path):
    run = loaded(tmp_path, "model=ae")
    last = replace(run, run=replace(run.run, checkpoint=tmp_path / "last.ckpt"), step=9)
    found = sweep([run, last, run])
    assert (found.keys, found.labels) == ([], ["run/run", "run/last"])


@pytest.mark.parametrize("word", ["dataset.split_seed=1", "dataset=mnist", "dataset.test_size=0.3"])
def test_runs_of_other_test_examples_are_refused(tmp_path, word):
    key = word.partition("=")[0]
    with pytest.raises(SettingError, match=rf"has other test examples than .*\({key} differs\)"):
        sweep(runs(tmp_path, ["model=vae"], ["model=vae", word]))


def test_other_batches_and_binary_images_are_the_same_test_examples(tmp_path):
    lines = [["dataset.batch_size=7"], ["model=ae", "dataset.train_size=100"]]
    assert len(sweep(runs(tmp_path, *lines)).runs) == 2


@pytest.mark.parametrize("word", ["dataset.train_size=20", "dataset.file={}/other.npy"])
def test_rows_that_are_scaled_in_another_way_are_refused(tmp_path, word):
    for name in ("x", "other"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(len(name)).normal(size=(200, 5)))
    words = ["model=ae", "dataset=array", f"dataset.file={tmp_path}/x.npy", "model.code_dim=2"]
    lines = [words, [*words, word.format(tmp_path)]]
    if "file" in word:
        lines[1].remove(words[2])
    with pytest.raises(SettingError, match=r"has other test examples than .*, or scales them by"):
        page(*runs(tmp_path, *lines))
    assert page(*runs(tmp_path / "same", words, [*words, "seed=1"]))


def test_pictures_beside_grids_have_one_size(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((40, 96, 96, 1)))
    words = ["model=ae", "dataset=array", f"dataset.file={tmp_path}/x.npy", "model.code_dim=2"]
    both = runs(tmp_path, [*words, "network=mlp"], [*words, "network=resnet"])
    text = page(*both, examples=4)
    data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', text)[1])
    assert data["examples"]["shape"] == [1, 64, 64]
    assert all(model["grid"]["shape"] == [1, 64, 64] for model in data["models"])


def test_a_grid_of_one_unit_is_over_the_unit_itself(tmp_path):
    text = page(loaded(tmp_path, "model=ae", "model.code_dim=1", "sparsity=sigmoid"), grids="true")
    data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', text)[1])
    (model,) = data["models"]
    assert 0 < model["grid"]["low"][0] < model["grid"]["high"][0] < 1  # as a sigmoid


def test_a_page_is_called_after_the_folder_that_all_runs_lie_in(tmp_path):
    run = loaded(tmp_path, "model=ae")
    near, far = (
        replace(run, run=Run(tmp_path / name, tmp_path / name / "best.ckpt"))
        for name in ("tour/digits/ae/1", "tour/digits/sweeps/now/0")
    )
    assert explore._place(Sweep([near, far], [], ["", ""])) == tmp_path / "tour" / "digits"
    assert explore._place(Sweep([near], [], [""])) == near.run.directory
