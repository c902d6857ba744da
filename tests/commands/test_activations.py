"""`dataset=activations` as it is typed: from training to results, through a row that is wrong."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.commandline import aecli, is_one_line

SMALL = (
    "model=ae",
    "network.hidden=[]",
    "model.code_dim=2",
    "dataset.batch_size=50",
    "trainer.deterministic=true",
    "pictures_every=0",
)
TRAIN = ("train", "dataset=activations", *SMALL)


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    mixing = draw.normal(size=(2, 6))
    for number in range(3):
        rows = draw.normal(size=(400, 2)) @ mixing
        np.save(tmp_path / f"{number}.npy", rows.astype(np.float16))
    return tmp_path


def test_from_training_to_results(folder):
    pca = [word for word in TRAIN if not word.startswith(("model=", "network"))]
    done = aecli(*pca, "model=pca", "dataset.files=?.npy", "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "3 shards, 1,200 rows of 6 numbers, float16" in done.stdout
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for words in (
        ("eval", "run=../run", "eval.pictures=false"),
        ("encode", "run=../run", "out=codes.npz", "dataset.files=[../0.npy,../1.npy]"),
        ("reconstruct", "run=../run", "out=x.npy", "dataset.files=../2.npy"),
        ("score", "run=../run", "out=scores.csv"),
        ("sample", "run=../run", "kind=reconstruct", "out=some.npz"),
    ):
        done = aecli(*words, cwd=elsewhere)
        assert done.returncode == 0, done.stderr
    codes = np.load(elsewhere / "codes.npz")
    assert codes["codes"].shape == (800, 2)
    assert codes["ids"].tolist() == list(range(800))
    x, rows = np.load(elsewhere / "x.npy"), np.load(folder / "2.npy")
    assert x.shape == rows.shape
    np.testing.assert_allclose(x, rows, atol=0.01)  # which have two dimensions


@pytest.mark.parametrize("kind", ["numbers", "mask"])
def test_rows_keep_their_numbers_and_new_ones_are_all_there(folder, kind):
    gone = np.arange(0, 1200, 5)
    np.save(folder / "drop.npy", gone if kind == "numbers" else np.isin(np.arange(1200), gone))
    pca = [word for word in TRAIN if not word.startswith(("model=", "network"))]
    words = ("model=pca", "dataset.files=?.npy", "dataset.drop=drop.npy", "hydra.run.dir=run")
    assert aecli(*pca, *words, cwd=folder).returncode == 0
    assert aecli("encode", "run=run", "out=own.npz", cwd=folder).returncode == 0
    own = np.load(folder / "own.npz")
    assert sorted(own["ids"]) == np.setdiff1d(np.arange(1200), gone).tolist()
    done = aecli("encode", "run=run", "out=new.npz", "dataset.files=1.npy", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    new = np.load(folder / "new.npz")
    assert new["ids"].tolist() == list(range(400))
    same = {int(i): z for i, z in zip(own["ids"], own["codes"], strict=True)}
    for row in (1, 7, 399):  # of the second file
        np.testing.assert_allclose(new["codes"][row], same[400 + row], rtol=1e-5)


def test_names_of_arrays_are_those_of_the_runs_files_alone(folder):
    rows = {n: torch.from_numpy(np.load(folder / f"{n}.npy")) for n in range(3)}
    for number, x in rows.items():
        save_file({"x": x, "y": 2 * x[:, :4].contiguous()}, folder / f"{number}.safetensors")
    files = "dataset.files=?.safetensors"
    words = ("model=topk_sae", "model.code_dim=8", "sparsity.k=2", "dataset.batch_size=50")
    names = ("dataset.key=x", "dataset.targets=?.safetensors", "dataset.target_key=y")
    line = ("train", "dataset=activations", *words, files, *names, "trainer=debug")
    done = aecli(*line, "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    new = ("dataset.files=1.safetensors", "dataset.targets=1.safetensors")
    done = aecli("score", "run=run", "out=a.csv", "quantile=null", *new, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    done = aecli("encode", "run=run", "out=b.npz", "dataset.files=1.npy", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    done = aecli("encode", "run=run", "out=c.npz", "dataset.files=1.safetensors", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    b, c = (np.load(folder / f"{name}.npz")["codes"] for name in "bc")
    np.testing.assert_allclose(b, c, rtol=1e-5)


def test_what_does_not_fit_is_one_line_and_nothing_is_overwritten(folder):
    run = ("dataset.files=?.npy", "hydra.run.dir=run", "trainer.max_epochs=1")
    assert aecli(*TRAIN, *run, cwd=folder).returncode == 0
    np.save(folder / "wide.npy", np.ones((9, 7), np.float16))
    before = (folder / "1.npy").read_bytes()
    for words, told in {
        ("dataset.files=wide.npy", "out=z.npy"): "has rows of 7 numbers; the run was trained on",
        ("dataset.files=?.npy", "out=1.npy", "overwrite=true"): "is, or lies in, what is read",
        ("dataset.files=[2.npy,1.npy]", "out=1.npy", "overwrite=true"): "is, or lies in, what is",
        ("out=1.npy", "overwrite=true"): "is, or lies in, what is read",
        ("dataset.file=0.npy", "out=z.npy"): "the run's data set has no such setting",
        ("dataset.key=x", "out=z.npy"): "dataset.key=x: is of new data; add dataset.files=",
    }.items():
        done = aecli("encode", "run=run", *words, cwd=folder)
        assert is_one_line(done), done.stderr
        assert told in done.stderr
    assert (folder / "1.npy").read_bytes() == before
    np.save(folder / "3.npy", np.ones((9, 6), np.float16))
    done = aecli("eval", "run=run", cwd=folder)
    assert is_one_line(done)
    assert "the 1,209 examples that are there now are not those of the run" in done.stderr


def test_what_a_run_reads_keeps_its_names_and_is_not_written_over(folder, tmp_path, monkeypatch):
    (folder / "blobs").mkdir()
    for name in ("0.npy", "1.npy", "2.npy"):
        (folder / name).rename(folder / "blobs" / f"of_{name[0]}")
        (folder / name).symlink_to(f"blobs/of_{name[0]}")
    mask = np.arange(1200) < 100
    np.save(folder / "mask.npy", mask)
    run = ("dataset.files=?.npy", "dataset.drop=mask.npy", "hydra.run.dir=run")
    done = aecli(*TRAIN, *run, "trainer.max_epochs=1", cwd=folder)
    assert done.returncode == 0, done.stderr
    before = (folder / "mask.npy").read_bytes()
    for words in (("eval", "eval.noise_levels=[]", "eval.pictures=false"),
                  ("encode", f"out={tmp_path}/z.csv")):  # fmt: skip
        done = aecli(words[0], f"run={folder}/run", *words[1:], cwd=tmp_path)  # from anywhere
        assert (done.returncode, done.stderr) == (0, "")
    done = aecli("encode", "run=run", "out=mask.npy", "overwrite=true", cwd=folder)
    assert is_one_line(done), done.stderr
    assert "out=mask.npy: is, or lies in, what is read" in done.stderr
    assert (folder / "mask.npy").read_bytes() == before
    done = aecli("train", "resume=run", "trainer.max_epochs=2", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_row_that_is_not_finite_ends_a_training_that_goes_on_once_it_is_mended(folder):
    whole = aecli(
        *TRAIN, "dataset.files=?.npy", "hydra.run.dir=whole", "trainer.max_epochs=2", cwd=folder
    )
    assert whole.returncode == 0, whole.stderr
    run = ("dataset.files=?.npy", "hydra.run.dir=run", "trainer.max_epochs=1")
    assert aecli(*TRAIN, *run, cwd=folder).returncode == 0
    path, row = folder / "1.npy", training_row(folder, range(400, 800)) - 400
    rows = np.load(path)
    np.save(path, np.where(np.arange(400)[:, None] == row, np.nan, rows).astype(np.float16))
    resume = ("train", "resume=run", "trainer.max_epochs=2")
    done = aecli(*resume, cwd=folder)
    assert is_one_line(done), done.stderr
    assert done.stderr.endswith(f"1.npy: row {row} has numbers that are not finite (6 of 6)\n")
    np.save(path, rows)
    done = aecli(*resume, cwd=folder)
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        torch.load(folder / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("run", "whole")
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def training_row(folder, rows):
    """Return the first of some rows that is in the training split."""
    done = aecli("encode", "run=whole", "out=all.npz", cwd=folder)
    assert done.returncode == 0, done.stderr
    made = np.load(folder / "all.npz")
    return min(set(rows) & set(made["ids"][made["split"] == "train"].tolist()))
