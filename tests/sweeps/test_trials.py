"""Which trial comes next: interrupted ones, new ones, those of machines that have gone."""

import os
import sqlite3
import time

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from aecli.errors import SettingError
from aecli.sweeps import study as studies
from aecli.sweeps.study import RETRY_OF, identity
from aecli.sweeps.trials import Trials, counted

SPACE = {"optimizer.lr": FloatDistribution(0, 1)}

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Return a function that opens the same study, as another machine would."""
    monkeypatch.setattr(studies, "GRACE", 3600)  # however slow this machine is

    def open_it():
        return optuna.create_study(
            storage=studies._database(f"sqlite:///{tmp_path}/study.db"),
            study_name="shared",
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(),
        )

    return open_it


def test_a_sweep_goes_on_with_its_own_interrupted_trial(shared):
    first = Trials(shared(), "a", SPACE, wanted=2).next()
    other = Trials(shared(), "b", SPACE, wanted=2)
    assert other.next().number == 1
    assert other.next() is None
    assert other.others_run() == 1
    again = Trials(shared(), "a", SPACE, wanted=2)
    assert again.next() == first
    assert again.next() is None


def test_a_trial_whose_machine_gives_no_sign_of_life_is_run_by_another(shared, tmp_path):
    gone = Trials(shared(), "gone", SPACE, wanted=2)
    lost = gone.next()
    here = Trials(shared(), "here", SPACE, wanted=2)
    mine = here.next()
    assert here.next() is None
    with sqlite3.connect(tmp_path / "study.db") as database:
        long_ago = "UPDATE trial_heartbeats SET heartbeat = '2026-01-01' WHERE trial_id = ?"
        database.execute(long_ago, [lost._trial_id])
    database.close()
    taken = here.next()
    assert taken.params == lost.params
    assert taken.user_attrs[RETRY_OF] == lost.number
    here.tell(mine.number, 1.0)
    here.tell(taken.number, 2.0)
    assert here.next() is None
    assert here.others_run() == 0
    gone.tell(lost.number, 3.0)  # the machine was only slow: it comes too late
    ended = counted(here.study.trials)
    assert [(t.state, t.value) for t in ended] == [
        (TrialState.COMPLETE, 1.0),
        (TrialState.COMPLETE, 2.0),
    ]
    assert Trials(shared(), "gone", SPACE, wanted=2).next() is None


def test_signs_of_life_are_given_as_long_as_a_trial_runs(shared, monkeypatch):
    told = []
    monkeypatch.setattr("aecli.sweeps.trials.HEARTBEAT", 0.01)
    trials = Trials(shared(), "here", SPACE, wanted=1)
    trials.next()
    monkeypatch.setattr(
        "aecli.sweeps.trials.give_sign_of_life", lambda _, number: told.append(number)
    )
    with trials.signs_of_life():
        end = time.monotonic() + 30
        while len(told) < 3 and time.monotonic() < end:
            time.sleep(0.01)
    assert told[:3] == [0, 0, 0]


def test_a_trial_that_was_asked_for_by_nobody_is_run(shared, monkeypatch):
    study = shared()
    study.ask(SPACE)  # and the machine was gone before it could say whose it is
    monkeypatch.setattr("aecli.sweeps.trials.GRACE", -1)
    taken = Trials(study, "here", SPACE, wanted=1).next()
    assert taken.user_attrs[RETRY_OF] == 0
    assert taken.params == study.trials[0].params


def test_of_two_machines_that_ask_for_the_last_trial_one_runs_it(shared):
    here, other = (Trials(shared(), name, SPACE, wanted=1) for name in "ab")
    ask = here.study.ask

    def ask_too_late(space):
        assert other.next().number == 0
        return ask(space)

    here.study.ask = ask_too_late
    assert here.next() is None
    other.tell(0, 1.0)
    assert [trial.number for trial in counted(here.study.trials)] == [0]
    assert here.study.trials[1].state == TrialState.FAIL
    assert here.others_run() == 0


def test_a_study_in_the_sweep_goes_on_with_whatever_runs():
    study = optuna.create_study()
    study.ask(SPACE)
    trials = Trials(study, None, SPACE, wanted=2)
    assert [trials.next().number, trials.next().number, trials.next()] == [0, 1, None]
    assert trials.others_run() == 0


def test_failed_and_pruned_trials_are_told_so():
    trials = Trials(optuna.create_study(), None, SPACE, wanted=2)
    failed, pruned = trials.next(), trials.next()
    trials.tell(failed.number, None)
    studies.trial_of(trials.study, pruned.number).report(0.5, 0)
    studies.trial_of(trials.study, pruned.number).set_user_attr("pruned", True)
    trials.tell(pruned.number, 0.7)
    assert [(t.state, t.value) for t in trials.study.trials] == [
        (TrialState.FAIL, None),
        (TrialState.PRUNED, 0.5),
    ]


def test_a_trial_whose_process_has_gone_is_queued_again_once():
    trials = Trials(optuna.create_study(), None, SPACE, wanted=1)
    lost = trials.next()
    assert trials.lose(lost.number)
    again = trials.next()
    assert again.params == lost.params
    assert not trials.lose(again.number)
    assert trials.next() is None
    assert [(t.number, t.state) for t in counted(trials.study.trials)] == [(1, TrialState.FAIL)]


def test_half_a_line_at_the_end_of_a_journal_is_cut_off(tmp_path):
    path = tmp_path / "study.log"

    def opened():
        return optuna.create_study(
            storage=studies._storage(str(path)), study_name="aecli", load_if_exists=True
        )

    for _ in range(3):
        study = opened()
        study.tell(study.ask(SPACE), 0.5)
        with path.open("a") as file:  # what a full disk leaves
            file.write('{"op_code":4,"trial_id":')
    assert len(opened().trials) == 3
    path.write_text(path.read_text().replace("\n", "", 1))
    with pytest.raises(SettingError, match=r"study\.log: damaged \(.*move it away"):
        studies._storage(str(path))


@pytest.mark.parametrize("text", ['{"accuracy": 0.93}', "my notes\n", "secret"])
def test_a_file_that_is_no_journal_stays_as_it_is(tmp_path, text):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(SettingError, match=r"mine\.json: damaged \(is no journal of Optuna\)"):
        studies._storage(str(path))
    assert path.read_text() == text
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingError, match="is no ordinary file"):
        studies._storage(str(tmp_path / "pipe"))


def test_a_sweep_keeps_its_name_where_it_is_moved(tmp_path):
    (tmp_path / "here").mkdir()
    name = identity(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert identity(tmp_path / "there") == name
    (tmp_path / "here").mkdir()
    assert identity(tmp_path / "here") != name


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@127.0.0.1:1/db",
        "postgresql://me:s3cret@nowhere.invalid/db",
        "postgresql://me:s3@cret@127.0.0.1:1x/db",
        "postgresql://127.0.0.1:1/db?user=me&password=s3cret",
        "postgresql+nodriver://me:s3cret@127.0.0.1/db",
        "nosuch://me:s3cret@127.0.0.1/db",
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(url):
    start = time.monotonic()
    with pytest.raises(SettingError) as error:
        studies._storage(url)
    assert time.monotonic() - start < 15
    told = str(error.value)
    assert told.startswith(f"sweeper.storage={url.split('://')[0]}://")
    assert "cannot be reached (" in told
    assert "cret" not in told
    assert "\n" not in told


def test_a_password_is_hidden_in_the_middle_of_a_line():
    line = "model=ae sweeper.storage=postgresql://me:s3cret@host/db seed=1,2"
    assert studies.without_password(line) == line.replace("s3cret", "***")
    for text in ("sweeper.storage=postgresql://me@host/db", "sweeper.storage=study.log seed=1"):
        assert studies.without_password(text) == text
