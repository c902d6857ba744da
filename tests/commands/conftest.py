import pytest

from tests.commands.made import make


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "sweeps" / "2026-01-01_00-00-00"
    make(folder, "0_a", 100.0, beta=1.0, seed=0)
    make(folder, "1_b", 102.0, beta=1.0, seed=1)
    make(folder, "2_c", 90.0, beta=4, seed=0)
    make(folder, "10_d", 92.0, beta=4.0, seed=1, elbo=-91.0)
    return folder
