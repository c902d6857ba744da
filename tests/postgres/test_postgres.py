"""Machines that share a study in PostgreSQL: every trial ends once, whoever is killed."""

import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
from optuna import create_study, logging
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from aecli.sweeps.study import GRACE, IDENTITY, RETRY_OF
from aecli.sweeps.trials import OWNER, counted
from tests.commandline import aecli_process as aecli

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "server.sh"
TRIALS = 6
LINE = (
    *("train", "-m", "sweeper=optuna", "sweeper.prune=false", "model=ae", "network.hidden=[8]"),
    *("pictures_every=0", "trainer.max_epochs=60", "optimizer.lr=tag(log,interval(1e-4,1e-2))"),
    f"sweeper.trials={TRIALS}",
)


@pytest.fixture(scope="session")
def server():
    """Run a server for the tests in here; return the URL of its database, password included."""
    if not (shutil.which("initdb") or glob.glob("/usr/lib/postgresql/*/bin/initdb")):  # noqa: PTH207
        pytest.skip(f"needs PostgreSQL: {SCRIPT} install")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Not below pytest's folder, which the user postgres may not enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        subprocess.run([SCRIPT, "start", folder, str(port)], check=True, timeout=60, cwd="/")
        yield f"postgresql://aecli:secret@127.0.0.1:{port}/postgres"
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=60, cwd="/")


def start(folder, url, *words):
    """Start a search in a folder of its own, as another machine would; in a group to be killed."""
    folder.mkdir(exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "aecli", *LINE, f"sweeper.storage={url}", *words],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def sweep_of(folder):
    (sweep,) = folder.glob("outputs/sweeps/*")
    return sweep


def running_of(study, folder):
    """Return the numbers of the trials that run in `folder` and have a checkpoint already."""
    name = (sweep_of(folder) / IDENTITY).read_text().strip()
    return [
        trial.number
        for trial in study.trials
        if trial.state == TrialState.RUNNING
        and trial.user_attrs.get(OWNER) == name
        and list(sweep_of(folder).glob(f"{trial.number}_*/checkpoints/last.ckpt"))
    ]


def kill_in_the_middle(machine, study, folder):
    """Kill -9 a search while a trial of it runs; return the trial's number."""
    end = time.monotonic() + 180
    while not (list(folder.glob(f"outputs/sweeps/*/{IDENTITY}")) and running_of(study, folder)):
        assert time.monotonic() < end, (folder / "log.txt").read_text()
        assert machine.poll() is None, (folder / "log.txt").read_text()
        time.sleep(0.1)
    (number,) = running_of(study, folder)
    os.killpg(machine.pid, signal.SIGKILL)
    machine.wait()
    return number


@pytest.fixture
def study(server):
    """Return the study that the searches share."""
    logging.set_verbosity(logging.ERROR)
    storage = RDBStorage(server)
    yield create_study(storage=storage, study_name="aecli")
    storage.remove_session()
    storage.engine.dispose()


def test_two_machines_of_which_both_are_killed_end_every_trial_once(server, study, tmp_path):
    back, gone = tmp_path / "back", tmp_path / "gone"
    machines = {folder: start(folder, server) for folder in (back, gone)}
    # The first one is started again before anybody takes its trial over; the second never is.
    continued = kill_in_the_middle(machines[back], study, back)
    machines[back] = start(back, server, f"resume={sweep_of(back)}")
    lost = kill_in_the_middle(machines[gone], study, gone)
    assert machines[back].wait(timeout=400 + GRACE) == 0, (back / "log.txt").read_text()

    trials = study.trials
    ended = counted(trials)
    assert [trial.state for trial in ended] == [TrialState.COMPLETE] * TRIALS
    assert trials[continued] in ended
    assert "going on with" in (back / "log.txt").read_text()
    assert trials[lost].state == TrialState.FAIL
    (retried,) = [trial for trial in trials if trial.user_attrs.get(RETRY_OF) == lost]
    assert retried.params == trials[lost].params
    metrics = [*back.glob("outputs/sweeps/*/*/metrics.json")]
    metrics += gone.glob("outputs/sweeps/*/*/metrics.json")
    assert sorted(int(path.parent.name.split("_")[0]) for path in metrics) == [
        trial.number for trial in ended
    ]
    done = aecli(*LINE, f"sweeper.storage={server}", f"resume={sweep_of(gone)}", cwd=gone)
    assert done.returncode == 0, done.stderr
    assert len(study.trials) == len(trials)


def test_a_wrong_password_gets_one_plain_line_without_it(server, tmp_path):
    url = server.replace("secret", "s3cret")
    done = aecli(*LINE, f"sweeper.storage={url}", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("aecli: sweeper.storage=postgresql://aecli:***@127.0.0.1:")
    assert "password authentication failed" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr


OPEN = "import sys; from aecli.sweeps.study import _database; _database(sys.argv[1])"


def test_machines_that_make_the_tables_of_an_empty_database_at_the_same_moment(server):
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
    line = [sys.executable, "-c", OPEN, server.replace("/postgres", "/empty")]
    machines = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    told = [machine.communicate(timeout=120)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0] * 6, told
