"""Beside SAELens: its generator draws from the same distribution, its metrics are the same."""

import os
import subprocess
import sys

import pytest
import torch

from aecli.data.true_dictionary import TrueDictionary
from aecli.evaluation.recovery import recovery
from tests.data.test_true_dictionary import SETTINGS
from tests.evaluation.test_recovery import parts
from tests.models.test_dictionary import dictionary

TOOL = os.environ.get("AECLI_SAE_PYTHON", sys.executable)
"""A Python that has sae-lens, where it is not installed beside aecli."""
ROWS, FEATURES, PAIRED = 51_200, 400, 100
LIKE = SETTINGS | {
    "true_features": FEATURES,
    "correlation_rank": 25,
    "correlation_scale": 0.1,
    "trees": 4,
    "branching": 4,
    "depth": 2,
    "exclusive": 1.0,
    "deviation": [0.5, 0.5],
}
START = "import sys, torch\ninto, given = sys.argv[1], torch.load(sys.argv[2])\n"
DRAWING = """
from sae_lens.synthetic import HierarchyConfig, LowRankCorrelationConfig, SyntheticModel
from sae_lens.synthetic import SyntheticModelConfig
from sae_lens.synthetic.firing_magnitudes import FoldedNormalMagnitudeConfig, LinearMagnitudeConfig
from sae_lens.synthetic.firing_probabilities import ZipfianFiringProbabilityConfig

model = SyntheticModel(SyntheticModelConfig(
    num_features=given["features"], hidden_dim=8, bias=0.5, seed=1,
    firing_probability=ZipfianFiringProbabilityConfig(exponent=0.5, max_prob=0.4, min_prob=0.002),
    hierarchy=HierarchyConfig(
        total_root_nodes=4, branching_factor=4, max_depth=2, mutually_exclusive_portion=1.0,
        compensate_probabilities=True, scale_children_by_parent=True),
    correlation=LowRankCorrelationConfig(rank=25, correlation_scale=0.1),
    mean_firing_magnitudes=LinearMagnitudeConfig(start=5.0, end=4.0),
    std_firing_magnitudes=FoldedNormalMagnitudeConfig(mean=0.5, std=0.5)))
torch.manual_seed(0)
generator, paired = model.activation_generator, given["paired"]
count, total, pairs = torch.zeros(3, 1, dtype=torch.float64)
for _ in range(given["rows"] // 512):
    drawn = generator.sample(512).double()
    active = (drawn > 0).double()
    count, total = count + active.sum(0), total + drawn.sum(0)
    pairs = pairs + active[:, :paired].T @ active[:, :paired]
torch.save({
    "count": count, "total": total, "pairs": pairs,
    "shared": model.correlation_matrix.correlation_factor,
    "spread": generator.std_firing_magnitudes,
    "thresholds": generator.correlation_thresholds}, into)
"""
MEASURING = """
from sae_lens.synthetic.evals import compute_classification_metrics, feature_uniqueness
from sae_lens.synthetic.evals import mean_correlation_coefficient

atoms, features = given["atoms"], given["features"]
found = compute_classification_metrics(given["code"], given["true"], atoms, features)
torch.save({
    "mcc": mean_correlation_coefficient(atoms, features),
    "uniqueness": feature_uniqueness(atoms, features),
    "precision": found.precision, "recall": found.recall, "f1": found.f1_score}, into)
"""


def told(program, folder, **given):
    """Return what a program makes of what is given, in the Python that has SAELens."""
    has_it = subprocess.run([TOOL, "-c", "import sae_lens.synthetic"], capture_output=True)
    if has_it.returncode:
        pytest.skip(f"{TOOL} has no sae-lens with synthetic data; AECLI_SAE_PYTHON names another")
    torch.save(given, folder / "given.pt")
    into = folder / "made.pt"
    words = [TOOL, "-c", START + program, str(into), str(folder / "given.pt")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return torch.load(into)


@pytest.mark.slow
def test_rows_are_drawn_from_the_distribution_of_saelens(tmp_path):
    theirs = told(DRAWING, tmp_path, features=FEATURES, rows=ROWS, paired=PAIRED)
    ours = TrueDictionary(**LIKE)
    ours.__dict__.update(shared=theirs["shared"], spread=theirs["spread"])
    torch.testing.assert_close(ours.thresholds, theirs["thresholds"], rtol=0, atol=1e-5)
    generator = torch.Generator().manual_seed(0)
    count, total, pairs = torch.zeros(3, 1, dtype=torch.float64)
    for _ in range(ROWS // 512):
        firings = ours.draw(512, generator)
        drawn = torch.zeros(512, FEATURES, dtype=torch.float64)
        drawn[firings.row, firings.feature] = firings.value.double()
        active = (drawn > 0).double()
        count, total = count + active.sum(0), total + drawn.sum(0)
        pairs = pairs + active[:, :PAIRED].T @ active[:, :PAIRED]
    for here, there, some in (
        (count, theirs["count"], slice(None)),
        (pairs, theirs["pairs"], pairs.triu(1) + theirs["pairs"].triu(1) > 40),
    ):
        errors = ((here - there) / (here + there).sqrt())[some]
        assert errors.std() == pytest.approx(1, abs=0.12)
        assert errors.abs().max() < 5
    means = [total / count, theirs["total"] / theirs["count"]]
    assert ((means[0] - means[1]).abs() < 8 / count.sqrt()).all()
    assert total.sum() / theirs["total"].sum() == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_the_metrics_are_those_of_saelens(tmp_path):
    model = dictionary("batch_topk")
    x = torch.randn(500, 12)
    with torch.no_grad():
        model.start_at(x)
    model.eval()
    features = torch.nn.functional.normalize(torch.randn(90, 12), dim=1)
    true = (torch.rand(500, 90) < 0.2).float()
    drawn = [part._replace(x=rows) for part, rows in zip(parts(true, 70), x.split(70), strict=True)]
    ours = recovery(model, features, drawn)
    given = {"atoms": model.W_dec.detach(), "features": features, "code": model.encode(x)}
    theirs = told(MEASURING, tmp_path, true=true, **given)
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-6)
