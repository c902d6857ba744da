import shutil

import numpy as np
import pandas as pd
import pytest

from tests.commandline import aecli, is_one_line


@pytest.fixture
def home(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "home")


@pytest.mark.parametrize("name", ["codes.csv", "codes.parquet", "codes.npz"])
def test_decoding_the_codes_is_reconstructing(name, home):
    for line in (
        f"encode run=rows out={name}",
        f"decode run=rows codes={name} out=decoded.csv batch_size=7",
        "reconstruct run=rows out=reconstructed.csv",
    ):
        done = aecli(*line.split(), cwd=home)
        assert (done.returncode, done.stderr) == (0, "")
    decoded, made = (pd.read_csv(home / f"{n}.csv") for n in ("decoded", "reconstructed"))
    assert list(decoded) == ["id", "x0", "x1", "x2", "x3", "x4"]
    pd.testing.assert_frame_equal(decoded, made.drop(columns="split"), rtol=1e-6)


def test_images_go_to_a_folder_by_the_ids_of_their_codes(home):
    codes = pd.DataFrame({"id": ["first", "sub/second"], "z0": 0.0, "z1": 1.0, "z2": [0, 2]})
    codes.to_csv(home / "codes.csv", index=False)
    assert aecli("decode", "run=vae", "codes=codes.csv", "out=made/", cwd=home).returncode == 0
    found = {str(path.relative_to(home / "made")) for path in (home / "made").rglob("*.png")}
    assert found == {"first.png", "sub/second.png"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("out=made/", "codes=null: must be a file, such as codes=codes.csv"),
        ("out=made/ codes=no.csv", "codes=no.csv: no such file"),
        ("out=made/ codes=x.npy", "codes=x.npy: holds an array [300, 5]; the run's code needs"),
        ("out=made/ codes=new.npz", "key=codes: new.npz has the arrays [x,y,names]"),
        ("out=x.npy codes=x.npy overwrite=true", "out=x.npy: is, or lies in, what is read"),
        ("out=made/ codes=x.npy key=x", "key=x: goes with an .npz file"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(line, message, home):
    before = sorted(home.rglob("*"))
    done = aecli("decode", "run=vae", *line.split(), cwd=home)
    assert is_one_line(done), done.stderr
    assert message in done.stderr
    assert sorted(home.rglob("*")) == before


def test_what_was_not_finite_is_found_on_the_way_and_nothing_is_left(home):
    np.save(home / "codes.npy", np.array([[0, 0, 0], [0, np.inf, 0]]))
    before = sorted(home.rglob("*"))
    done = aecli("decode", "run=vae", "codes=codes.npy", "out=made/", "batch_size=1", cwd=home)
    assert done.stderr == "aecli: codes=codes.npy: has no finite number in row 1\n"
    assert sorted(home.rglob("*")) == before
