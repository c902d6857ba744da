import numpy as np
import pytest
from pandas import DataFrame

from tests.commandline import aecli
from tests.commands.made import make

SHORT = ("trainer.max_epochs=2", "network.hidden=[16]", "model.code_dim=3", "pictures_every=0")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Train small models; return their folder: `vae` and `ae` on digits, `rows`, and `table`.

    Beside them lie rows, `x.npy`, and new ones with labels, `new.npz`, and a table, `people.csv`.
    """
    folder = tmp_path_factory.mktemp("trained")
    draw = np.random.default_rng(0)
    mixing = draw.normal(size=(2, 5))
    x = 100 + draw.normal(size=(300, 2)) @ mixing
    np.save(folder / "x.npy", x.astype(np.float32))
    odd = 100 + 20 * draw.normal(size=(10, 5))
    labels, names = ["normal"] * 30 + ["odd"] * 10, [f"row {n}" for n in range(40)]
    np.savez(folder / "new.npz", x=np.concatenate([x[:30], odd]), y=labels, names=names)
    height = 170 + 8 * draw.normal(size=200)
    people = {"who": [f"p{n}" for n in range(200)], "age": (height - 130).round().astype(int)}
    people |= {"height": height, "town": np.where(height > 170, "Rome", "Oslo"), "kind": "normal"}
    DataFrame(people).to_csv(folder / "people.csv", index=False)
    roles = ["dataset=table", "dataset.file=people.csv", "dataset.id=who", "dataset.label=kind"]
    for name, words in {
        "vae": ["model=vae"],
        "ae": ["model=ae"],
        "rows": ["model=pca", "dataset=array", "dataset.file=x.npy"],
        "table": ["model=vae", *roles],
    }.items():
        short = [w for w in SHORT if name != "rows" or not w.startswith("network")]
        done = aecli("train", *words, *short, f"hydra.run.dir={name}", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "sweeps" / "2026-01-01_00-00-00"
    make(folder, "0_a", 100.0, beta=1.0, seed=0)
    make(folder, "1_b", 102.0, beta=1.0, seed=1)
    make(folder, "2_c", 90.0, beta=4, seed=0)
    make(folder, "10_d", 92.0, beta=4.0, seed=1, elbo=-91.0)
    return folder
