"""Who started this process, by Slurm's variables: srun, a batch script, or a hand in a shell."""

import os

import pytest
from lightning.fabric.plugins.environments import SLURMEnvironment

from aecli.distributed import Launched, launched, prepare_for_lightning, rank
from aecli.errors import SettingError

BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "1"}
STEP = BATCH | {"SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}


@pytest.fixture(autouse=True)
def _outside_of_slurm(monkeypatch):
    for name in os.environ:
        if name.startswith(("SLURM", "TORCHELASTIC")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        (BATCH | {"SLURM_JOB_NAME": "job.sh"}, None),  # sbatch, without srun in it
        (BATCH | {"SLURM_JOB_NAME": "interactive"}, None),  # in salloc's shell
        (STEP | {"SLURM_JOB_NAME": "aecli"}, Launched(2, 2)),  # srun
        (STEP | {"SLURM_JOB_NAME": "job.sh"}, Launched(2, 2)),  # sbatch, and srun in it
        (STEP | {"SLURM_JOB_NAME": "interactive"}, Launched(2, 2)),  # srun in salloc's shell
        (STEP | {"SLURM_JOB_NAME": "bash"}, None),  # typed into srun --pty bash
        (STEP | {"SLURM_STEP_ID": str(2**32 - 6)}, None),  # salloc's shell on a node
        (STEP | {"SLURM_NTASKS": "1"}, None),
    ],
)
def test_lightning_sees_the_same_as_launched(variables, expected):
    os.environ.update(variables)
    assert launched() == expected
    assert rank() == (1 if expected else 0)
    prepare_for_lightning()
    assert launched() == expected
    if int(variables.get("SLURM_NTASKS", 1)) > 1:
        assert SLURMEnvironment.detect() == bool(expected)
    if expected:
        SLURMEnvironment().validate_settings(expected.per_node, expected.nodes)


def test_tasks_spread_unevenly_are_refused():
    os.environ.update(STEP | {"SLURM_NTASKS": "3", "SLURM_STEP_TASKS_PER_NODE": "2,1"})
    with pytest.raises(SettingError, match="srun: 3 tasks on 2 nodes; must be as many on each"):
        prepare_for_lightning()
