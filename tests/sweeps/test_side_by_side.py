"""A search side by side: each trial starts as soon as a place is free."""

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.commandline import aecli_process as aecli

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_quick_trials_end_while_a_slow_one_runs(tmp_path, launcher):
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))
    study = optuna.create_study(storage=storage, study_name="aecli")
    for epochs in (300, 1, 2, 1):
        study.enqueue_trial({"trainer.max_epochs": epochs})
    line = ("train", "-m", "sweeper=optuna", f"launcher={launcher}", "sweeper.prune=false")
    shared = ("sweeper.storage=study.log", "sweeper.trials=4", "sweeper.at_once=2")
    space = ("trainer.max_epochs=1,2,300", "model=ae", "network.hidden=[8]", "pictures_every=0")
    done = aecli(*line, *shared, *space, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    slow, *quick = study.trials
    assert len(quick) == 3
    assert all(trial.datetime_complete < slow.datetime_complete for trial in quick)
