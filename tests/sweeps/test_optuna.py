"""`sweeper=optuna`: the space as typed, trials that fail or look bad, going on, bad input."""

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna import load_study, logging
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from aecli.runs.metrics_file import read_metrics
from aecli.runs.paths import number_of
from aecli.sweeps.space import distribution
from aecli.sweeps.study import STORAGE, STUDY
from tests.commandline import aecli

SHORT = ("network.hidden=[8]", "pictures_every=0", "trainer.max_epochs=8")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("model=ae,vae", CategoricalDistribution(["ae", "vae"])),
        ("dataset.batch_size=32,64", CategoricalDistribution([32, 64])),
        ("network.hidden=[8],[8,8]", CategoricalDistribution(["[8]", "[8,8]"])),
        ("optimizer.lr=interval(0.1,1)", FloatDistribution(0.1, 1)),
        ("optimizer.lr=tag(log,interval(0.1,1))", FloatDistribution(0.1, 1, log=True)),
        ("model.code_dim=int(interval(2,32))", IntDistribution(2, 32)),
        ("model.code_dim=range(2,9,3)", IntDistribution(2, 8, step=3)),
        ("model.code_dim=range(2,8,3)", IntDistribution(2, 5, step=3)),
        ("noise.amount=range(0,0.5,0.25)", FloatDistribution(0, 0.25, step=0.25)),
    ],
)
def test_the_space_is_what_was_typed(typed, expected):
    (override,) = OverridesParser.create().parse_overrides([typed])
    assert distribution(override) == expected


def study_of(sweep):
    logging.set_verbosity(logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(sweep / STORAGE)))
    return load_study(study_name=STUDY, storage=storage)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_bad_trials_end_early_failed_ones_count_as_failed_and_the_rest_goes_on(tmp_path, launcher):
    # A Bernoulli likelihood is refused on grey images, and the smallest rates learn nothing.
    likelihoods = "likelihood=mse,cross_entropy,gaussian,bernoulli"
    space = (
        "model=ae",
        "dataset.binarize=none",
        likelihoods,
        "optimizer.lr=tag(log,interval(1e-6,1e-1))",
    )
    line = ("train", "-m", "sweeper=optuna", f"launcher={launcher}", "objective=mse")
    done = aecli(*line, *space, *SHORT, "sweeper.trials=15", cwd=tmp_path)
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    trials = study_of(sweep).trials
    states = [trial.state.name for trial in trials]
    assert done.returncode == 1, "some have failed"
    assert set(states) <= {"COMPLETE", "PRUNED", "FAIL"}
    failed = [trial.params["likelihood"] == "bernoulli" for trial in trials]
    assert [state == "FAIL" for state in states] == failed
    assert any(failed)
    assert "PRUNED" in states
    jobs = sorted(sweep.glob("[0-9]*/"), key=number_of)
    ended = [read_metrics(job).get("pruned", False) for job in jobs]
    assert ended == [state == "PRUNED" for state in states]
    assert f"aecli: {sum(failed)} of 15 jobs failed:" in done.stderr
    assert "Traceback" not in done.stderr
    best = min(t.value for t in trials if t.state.name == "COMPLETE")
    told = re.search(r"the best by mse: (\S+), number (\d+)", done.stdout)
    assert told
    assert float(told[1]) == pytest.approx(best, rel=1e-3)
    assert {path.name for path in sweep.glob("*.png")} == {
        "history.png",
        "slices.png",
        "importances.png",
    }

    # As if it had been killed in the last job; with more trials now.
    again = (*line, *space, *SHORT, f"resume={sweep}", "sweeper.trials=16")
    done = aecli(*again, cwd=tmp_path)
    longer = study_of(sweep).trials
    assert len(longer) == 16
    assert [t.params for t in longer[:15]] == [t.params for t in trials]
    assert longer[15].params != trials[0].params
    assert len([path for path in sweep.glob("[!.]*/") if path.is_dir()]) == 16


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["optimizer.lr=interval(1,0.1)"], "must go from one finite number up to another"),
        (["optimizer.lr=tag(log,interval(0,1))"], "an interval must start above 0"),
        (["model.code_dim=range(5,5)"], "model.code_dim=range(5,5): is an empty range"),
        (
            ["model=glob(zzz*)"],
            "model=glob(zzz*): matches none of ae, batch_topk_sae, contractive_ae",
        ),
        (["sweeper.space={optimizer.lr:1}"], "sweeper.space: must give each setting that"),
        (["sweeper.trials=0"], "sweeper.trials=0: must be a whole number of at least 1"),
        (["sweeper.storage=/nowhere/study.log"], "/nowhere/study.log: cannot be reached ("),
        (["sweeper.storage=sqlite:////nowhere/s.db"], "//nowhere/s.db: cannot be reached ("),
        (["optimizer.lr=1e-3", "dataset.batch_size=32"], "sweeper.space: must give each setting"),
        (["sweeper.trials=3,4"], "sweeper.trials=3,4: must be one value for the whole"),
        (["trainer.max_epochs=ten"], "trainer.max_epochs=ten: must be a whole number"),
        (["optimzer.lr=1,2"], "optimzer.lr: no such setting; did you mean optimizer.lr?"),
    ],
)
def test_a_search_that_cannot_be_gets_one_plain_line(tmp_path, words, told):
    done = aecli("train", "-m", "sweeper=optuna", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_space_may_have_more_points_than_a_sweep_has_runs(tmp_path):
    space = ("model.code_dim=range(2,512)", "dataset.batch_size=range(16,512)")
    line = ("train", "-m", "sweeper=optuna", "sweeper.trials=1", *space, "trainer=debug")
    done = aecli(*line, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = aecli("train", "-m", "sweeper=optuna", "model.code_dim=range(2,1e9)", cwd=tmp_path)
    assert "model.code_dim=range(2,1e9): makes more than 100,000 runs" in done.stderr


def test_a_search_is_a_sweep(tmp_path):
    done = aecli("train", "sweeper=optuna", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "aecli: sweeper=optuna: searches by a sweep of runs; add -m\n",
    )


def test_an_objective_that_the_model_lacks_is_refused_after_an_epoch(tmp_path):
    done = aecli("train", "objective=val/elbo", "model=ae", *SHORT, cwd=tmp_path)
    told = "objective=val/elbo: must be one of val/loss, val/penalty, val/mse for this model"
    assert (done.returncode, done.stderr) == (1, f"aecli: {told}\n")


def test_machines_share_a_study_through_a_database(tmp_path):
    line = ("train", "-m", "sweeper=optuna", "model=pca", "model.code_dim=2,4,8", *SHORT)
    shared = ("sweeper.storage=sqlite:///study.db", "sweeper.study=shared")
    for trials in (2, 4):  # of both machines
        assert aecli(*line, *shared, f"sweeper.trials={trials}", cwd=tmp_path).returncode == 0
    study = load_study(study_name="shared", storage=f"sqlite:///{tmp_path}/study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    other = aecli(*line, *shared, "objective=val/elbo", cwd=tmp_path)
    assert "sweeper.study=shared: that study has objective=val/loss; give" in other.stderr
