"""How much of a known dictionary is found: against definitions spelled out."""

from itertools import permutations

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from aecli.data import Drawn
from aecli.data.true_dictionary import Firings
from aecli.errors import SettingError
from aecli.evaluation import recovery
from aecli.evaluation.recovery import FeatureDetection, alignment
from tests.models.test_dictionary import dictionary


def test_the_assignment_is_the_best_of_all():
    generator = torch.Generator().manual_seed(0)
    atoms, features = torch.randn(4, 3, generator=generator), torch.randn(6, 3, generator=generator)
    cosines = torch.cosine_similarity(atoms[:, None], features[None], dim=2)
    found = alignment(atoms, features)
    best = max(
        sum(float(cosines[i, j].abs()) for i, j in enumerate(some))
        for some in permutations(range(6), 4)
    )
    assert found.values["mcc"] == pytest.approx(best / 4)
    assert found.values["mmcs"] == pytest.approx(float(cosines.max(dim=0)[0].mean()))
    assert found.best.tolist() == cosines.abs().argmax(dim=1).tolist()
    assert found.values["uniqueness"] == len(set(found.best.tolist())) / 4
    more = alignment(features, atoms)  # more atoms than features: as many pairs
    assert more.values["mcc"] == pytest.approx(best / 4)


def test_a_dictionary_that_was_found_whole_in_part_and_twice():
    features = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    whole = alignment(3 * features[order], features)
    assert whole.values == pytest.approx({"mcc": 1, "mmcs": 1, "uniqueness": 1})
    assert torch.equal(whole.best, order)
    negative = alignment(-features, features)
    assert negative.values["mcc"] == pytest.approx(1)
    assert negative.values["mmcs"] < 0.5, "a code is positive: −f is another direction"
    twice = alignment(features[[0, 0, 1, 1]], features)
    assert twice.values["uniqueness"] == 0.5
    assert twice.values["mcc"] < 1


def test_cosines_that_memory_does_not_hold_are_refused(monkeypatch):
    monkeypatch.setattr(recovery, "BYTES", 1 << 50)
    with pytest.raises(SettingError, match="the cosines of 4 atoms and 6 true features would take"):
        alignment(torch.randn(4, 3), torch.randn(6, 3))


def parts(codes, size):
    """Return rows with true codes `(N, features)` as they are drawn, `size` at a time."""
    for part in codes.split(size):
        row, feature = part.nonzero(as_tuple=True)
        yield Drawn(torch.zeros(len(part), 1), Firings(row, feature, part[row, feature]))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_precision_recall_and_f1_are_means_over_the_latents(size):
    generator = torch.Generator().manual_seed(0)
    true = (torch.rand(200, 5, generator=generator) < 0.3).float()
    true[:, 4] = 0  # never active
    best = torch.tensor([0, 1, 1, 3, 4, 2])
    active = (torch.rand(200, 6, generator=generator) < 0.3) ^ (true[:, best] > 0)
    active[:, 5] = False  # dead
    detection = FeatureDetection(best, 5)
    for own, drawn in zip(active.split(size), parts(true, size), strict=True):
        detection.add(*own.nonzero(as_tuple=True), drawn)
    expected = precision_recall_fscore_support(
        true[:, best] > 0, active, average="macro", zero_division=0
    )
    found = detection.compute()
    values = [found[name] for name in ("precision", "recall", "f1")]
    assert values == pytest.approx(expected[:3])


def test_a_model_is_measured_by_its_rule_of_inference():
    model = dictionary("batch_topk")
    x = torch.randn(60, 12)
    with torch.no_grad():
        model.start_at(x)
    model.eval()
    features = torch.nn.functional.normalize(torch.randn(9, 12), dim=1)
    true = (torch.rand(60, 9) < 0.3).float()
    drawn = [part._replace(x=rows) for part, rows in zip(parts(true, 25), x.split(25), strict=True)]
    found = recovery.recovery(model, features, drawn)
    best = alignment(model.W_dec.detach(), features).best
    expected = precision_recall_fscore_support(
        true[:, best] > 0, model.encode(x) != 0, average="macro", zero_division=0
    )
    assert found["f1"] == pytest.approx(expected[2])
    assert set(found) == {"mcc", "mmcs", "uniqueness", "f1", "precision", "recall"}
