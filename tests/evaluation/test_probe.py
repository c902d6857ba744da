import re

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aecli.errors import SettingError
from aecli.evaluation import probe as of_probes
from aecli.evaluation.probe import Probe
from tests.commandline import aecli


def probe(**settings):
    return Probe(**({"C": 1.0, "tolerance": 1e-6, "steps": 2000} | settings))


@pytest.fixture
def clusters():
    """Return features `(600, 20)` of three classes, of scales from 0.001 to 1,000, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (600,), generator=generator) + 4
    centers = torch.randn(3, 20, generator=generator)
    mixed = torch.randn(20, 20, generator=generator)
    features = centers[labels - 4] + 2 * torch.randn(600, 20, generator=generator) @ mixed
    return features * torch.logspace(-3, 3, 20) + 5, labels


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_it_is_scikit_learns_logistic_regression_after_its_scaler(clusters, C, classes):  # noqa: N803
    features, labels = clusters
    features, labels = features[labels < 4 + classes], labels[labels < 4 + classes]
    fit = probe(C=C, tolerance=1e-8).fit(features, labels)
    assert fit.converged
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=10_000))
    theirs.fit(features.double().numpy(), labels.numpy())
    log_p = theirs.predict_log_proba(features.double().numpy())
    ours = torch.addmm(fit.bias, features.double(), fit.weight).log_softmax(dim=1)
    np.testing.assert_allclose(ours.numpy(), log_p, atol=2e-4)
    right = theirs.score(features.double().numpy(), labels.numpy())
    assert fit.error(features, labels) == pytest.approx(100 * (1 - right))


def test_scale_origin_order_and_threads_of_the_features_do_not_matter(clusters):
    features, labels = clusters
    fit = probe().fit(features, labels)
    shuffled = torch.randperm(len(labels))
    other = probe().fit(3 * features[shuffled].flip(1) - 7, labels[shuffled])
    ours = torch.addmm(fit.bias, features.double(), fit.weight)
    theirs = torch.addmm(other.bias, 3 * features.double().flip(1) - 7, other.weight)
    assert (ours - theirs).abs().max() < 1e-3  # features are float32
    assert fit.error(features, labels) == other.error(3 * features.flip(1) - 7, labels)


def test_a_feature_that_hardly_varies_beside_others_counts(clusters):
    features, labels = clusters
    units = torch.logspace(-1, 1, 20)
    fit = probe().fit(features * units, labels)
    assert (fit.weight.abs().sum(dim=1) > 0).all()
    assert fit.error(features * units, labels) == probe().fit(features, labels).error(
        features, labels
    )


def test_constant_features_count_as_nothing(clusters):
    features, labels = clusters
    constant = torch.full((len(labels), 2), 0.1)
    fit = probe().fit(torch.cat([constant, features], dim=1), labels)
    assert fit.converged
    assert (fit.weight[:2] == 0).all()
    assert fit.error(torch.cat([constant, features], dim=1), labels) == probe().fit(
        features, labels
    ).error(features, labels)
    rounded = 1e-15 * torch.randn(len(labels), 2)  # as a unit of which every input is 0
    assert (probe().fit(torch.cat([rounded, features], dim=1), labels).weight[:2] == 0).all()


def test_too_few_steps_are_said(clusters):
    assert not probe(steps=3).fit(*clusters).converged


def test_error_of_separable_and_of_random_labels():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (400,), generator=generator)
    features = torch.randn(400, 5, generator=generator)
    fit = probe().fit(features[:200], labels[:200])
    assert fit.error(features[200:], labels[200:]) == pytest.approx(50, abs=12)
    features[:, 0] += 8 * labels
    fit = probe().fit(features[:200], labels[:200])
    assert fit.error(features[200:], labels[200:]) < 1


@pytest.mark.parametrize("key", ["C", "tolerance", "steps"])
def test_impossible_settings_are_refused(key):
    with pytest.raises(SettingError, match=f"eval.probe.{key}=-1"):
        probe(**{key: -1})


def test_the_pixels_of_the_runs_of_a_sweep_are_fitted_once(clusters, monkeypatch):
    features, labels = clusters
    fits = []
    fit = Probe.fit
    monkeypatch.setattr(Probe, "fit", lambda self, *rows: fits.append(1) or fit(self, *rows))
    first = probe().fit_once(features, labels)
    assert probe().fit_once(features.clone(), labels.clone()) is first
    assert len(fits) == 1
    for other in (probe(C=0.5), probe()):
        other.fit_once(features, labels.flip(0))
    assert len(fits) == 3


def test_codes_that_do_not_fit_are_refused_before_they_are_made(monkeypatch, tmp_path):
    aecli("train", "trainer=debug", "pictures_every=0", cwd=tmp_path)
    monkeypatch.setattr(of_probes, "BYTES", 1e12)
    done = aecli("eval", "run=latest", "eval.pictures=false", cwd=tmp_path)
    told = r"aecli: eval\.protocol=probe: the fit to [\d,]+ codes of \d+ numbers would take "
    assert done.returncode == 1
    assert re.match(told, done.stderr), done.stderr
