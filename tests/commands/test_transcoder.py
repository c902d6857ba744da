"""A transcoder as it is typed: `dataset.targets=`, from training to results."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aecli.commands.cite import references
from aecli.errors import SettingError
from docs.pictures import Line, steps
from tests.commandline import aecli, is_one_line

PAGE = Path(__file__).parents[2] / "docs" / "dictionaries.md"
WIDTH, MADE = 6, 4
FILES, TARGETS = "dataset.files=in/*.npy", "dataset.targets=out/*.npy"
TRAIN = ("train", "dataset=activations", "dataset.batch_size=50", "pictures_every=20")
MODEL = ("model=batch_topk_sae", "model.code_dim=24", "sparsity.k=3", "optimizer.lr=1e-2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with rows, what a linear map makes of them, and a run on both."""
    folder = tmp_path_factory.mktemp("work")
    draw = np.random.default_rng(0)
    atoms, matrix = draw.normal(size=(8, WIDTH)), draw.normal(size=(WIDTH, MADE))
    for number, count in enumerate((400, 700, 300)):
        rows = (draw.exponential(size=(count, 8)) * (draw.random((count, 8)) < 0.2)) @ atoms + 1
        for name, array in {"in": 50 * rows, "out": rows @ matrix - 3}.items():
            (folder / name).mkdir(exist_ok=True)
            np.save(folder / name / f"{number}.npy", array.astype(np.float32))
    words = (FILES, TARGETS, "hydra.run.dir=run", "trainer.max_epochs=20")
    done = aecli(*TRAIN, *MODEL, *words, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "; targets of 4 numbers, float32; " in done.stdout
    assert "aecli eval " in done.stdout
    assert "aecli explore" not in done.stdout  # which refuses it
    return folder


def run(folder, *words):
    done = aecli(*words, cwd=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def refused(folder, *words):
    done = aecli(*words, cwd=folder)
    assert is_one_line(done), done.stderr
    return done.stderr


def test_encoding_and_decoding_need_the_rows_alone_and_give_targets(folder, tmp_path):
    for name in ("run", "in"):
        shutil.copytree(folder / name, tmp_path / name)
    shutil.move(folder / "out", folder / "away")
    try:
        run(tmp_path, "encode", "run=run", "out=all.npz")
        run(tmp_path, "encode", "run=run", "out=codes.npz", "dataset.files=in/1.npy")
        run(tmp_path, "decode", "run=run", "out=made.npy", "codes=codes.npz")
        run(tmp_path, "reconstruct", "run=run", "out=y.npy", "dataset.files=in/1.npy")
        run(tmp_path, "export", "run=run", "out=x.safetensors")
        run(tmp_path, "export", "run=run", "format=saelens", "out=sae/")
        told = refused(tmp_path, "eval", "run=run")
        assert "/out/*.npy: there is no such file" in told
        run(
            tmp_path,
            "eval",
            "run=run",
            f"dataset.targets={folder}/away/*.npy",
            "eval.pictures=false",
        )
    finally:
        shutil.move(folder / "away", folder / "out")
    assert np.load(tmp_path / "all.npz")["codes"].shape == (1400, 24)
    made, y = np.load(tmp_path / "made.npy"), np.load(tmp_path / "y.npy")
    np.testing.assert_allclose(made, y, rtol=1e-4, atol=1e-4)
    wanted = np.load(folder / "out" / "1.npy")
    assert made.shape == wanted.shape
    error = ((made - wanted) ** 2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum()
    assert error < 0.2
    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert (config["architecture"], config["d_out"]) == ("jumprelu_transcoder", MADE)


def test_the_figures_are_those_of_the_targets_in_all_commands(folder):
    words = ("eval", "run=run", "eval.top_rows=3", "eval.noise_levels=[0.1]")
    told = run(folder, *words)
    assert "errors of its targets" in told
    test = json.loads((folder / "run" / "metrics.json").read_text())["test"]
    run(folder, "score", "run=run", "out=scores.csv", "overwrite=true")
    with (folder / "scores.csv").open() as file:
        rows = {
            int(r["id"]): float(r["score"]) for r in csv.DictReader(file) if r["split"] == "test"
        }
    assert test["mse"] == pytest.approx(np.mean(list(rows.values())), rel=1e-4)
    run(folder, "reconstruct", "run=run", "out=all.npz", "overwrite=true")
    made = np.load(folder / "all.npz")
    places = np.array(sorted(rows))
    found = made["examples"][np.argsort(made["ids"])][places]
    wanted = np.concatenate([np.load(folder / "out" / f"{n}.npy") for n in range(3)])[places]
    error = ((found - wanted) ** 2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum()
    assert test["explained_variance"] == pytest.approx(1 - error, abs=1e-4)
    assert test["explained_variance"] > 0.8
    with (folder / "run" / "eval" / "top_rows.csv").open() as file:
        assert {row["file"] for row in csv.DictReader(file)} <= {f"{n}.npy" for n in range(3)}
    run(folder, "sample", "run=run", "kind=reconstruct", "n=4")
    shown = np.load(folder / "run" / "samples" / "reconstruct.npz")["images"]
    assert shown.shape == (8, MADE)


def test_new_rows_are_scored_by_their_own_targets(folder):
    new = ("score", "run=run", "out=new.csv", "overwrite=true")
    rows, targets = "dataset.files=in/2.npy", "dataset.targets=out/2.npy"
    assert "add dataset.targets=…, or use kind=knn" in refused(folder, *new, rows)
    assert "dataset.targets=out/2.npy: is of new data; add dataset.files=" in refused(
        folder, *new, targets
    )
    assert "out/1.npy has 700 rows, and in/2.npy 300" in refused(
        folder, *new, rows, "dataset.targets=out/1.npy"
    )
    run(folder, *new, rows, targets)
    run(folder, *new, rows, "kind=knn")
    assert "is, or lies in, what is read" in refused(
        folder, "encode", "run=run", "out=out/0.npy", "overwrite=true"
    )
    assert "no such setting" in refused(folder, "encode", "run=run", "out=z.npz", targets)


def test_in_python(folder, monkeypatch):
    import aecli as package

    monkeypatch.chdir(folder)
    model = package.load("run")
    rows = np.load("in/2.npy")
    assert model.reconstruct(rows).shape == (300, MADE)
    np.testing.assert_allclose(
        model.decode(model.encode(rows)), model.reconstruct(rows), 1e-3, 1e-3
    )
    with pytest.raises(SettingError, match=r"kind=mse: .* none to compare with"):
        model.score(rows)
    assert model.score(rows, "knn").shape == (300,)


@pytest.mark.slow
def test_the_lines_of_the_page_run(folder, tmp_path):
    for name, own in (("in", "in"), ("out", "out"), ("new_in", "in"), ("new_out", "out")):
        shutil.copytree(folder / own, tmp_path / name)
    short = ["model.code_dim=64", "dataset.batch_size=50", "trainer.max_epochs=1"]
    mark = "run by tests/commands/test_transcoder.py"
    lines = [s.words[1:] for s in steps(PAGE) if isinstance(s, Line) and s.mark == mark]
    assert [words[0] for words in lines] == ["train", "eval", "encode", "decode", "score", "export"]
    for words in lines:
        run(tmp_path, *words, *(short if words[0] == "train" else []))
    assert np.load(tmp_path / "made.npy").shape == (1400, MADE)


def test_what_has_no_use_for_targets_says_so(folder):
    for model in ("ae", "vae", "pca"):
        told = refused(folder, *TRAIN, FILES, TARGETS, f"model={model}")
        assert f"dataset.targets=out/*.npy: model={model} reconstructs its own input" in told
    told = refused(folder, *TRAIN, *MODEL, TARGETS)
    assert "dataset.files=null: must be a pattern" in told
    told = refused(folder, "train", "dataset=digits", *MODEL, TARGETS)
    assert "dataset.targets: no such setting" in told
    assert "makes targets of what it reads" in refused(folder, "explore", "run=run", "out=x.html")
    told = refused(folder, *TRAIN, *MODEL, FILES, TARGETS, "dataset.target_shape=[4]")
    assert "dataset.target_shape=[4]: follows from other settings" in told
    cited = run(folder, "cite", "run=run")
    assert references()["dunefsky2024"] in cited
    run(folder, "compare", "run")


@pytest.mark.slow
def test_a_target_that_is_not_finite_ends_a_training_that_goes_on_once_it_is_mended(folder):
    place = ("hydra.run.dir=broken", FILES, TARGETS)
    words = (*TRAIN, *MODEL, *place, "trainer.deterministic=true")
    run(folder, *words, "trainer.max_epochs=1")
    path = folder / "out" / "1.npy"
    whole = np.load(path)
    np.save(path, np.where(np.arange(700)[:, None] % 100 < 90, np.nan, whole).astype(np.float32))
    resume = ("train", "resume=broken", "trainer.max_epochs=2")
    try:
        assert "out/1.npy: row " in (told := refused(folder, *resume))
        assert "has numbers that are not finite (4 of 4)" in told
    finally:
        np.save(path, whole)
    run(folder, *resume)
