"""What other libraries would say on the terminal, and need not."""

import logging
import warnings

import pytest
from lightning.fabric.plugins.environments import SLURMEnvironment

from aecli.training.quiet import QUIETENED, quieten


@pytest.fixture
def login_node(tmp_path, monkeypatch):
    """Put an `srun` on PATH, as on the login node of a cluster."""
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def quiet(monkeypatch):
    """Call `quieten` and undo what it does."""
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    monkeypatch.setattr(logging, "captureWarnings", lambda capture: None)
    loggers = [logging.getLogger(name) for name in QUIETENED]
    levels = [logger.level for logger in loggers]
    yield quieten
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def test_lightning_advises_no_srun_on_a_login_node(login_node, quiet):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SLURMEnvironment.detect()
        assert "`srun` command is available" in str(caught[0].message)  # its name is still that
        quiet()
        SLURMEnvironment.detect()
        warnings.warn("another", stacklevel=1)
    assert [str(warning.message) for warning in caught[1:]] == ["another"]
