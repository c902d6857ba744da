"""What an experiment says at its end, and a short form of each one on MNIST.

The short forms take few images and few epochs: they check that each method does what its paper
says it does (a direction, a loose bound), so that a change that breaks one is caught.
"""

import json
import logging

import pytest
import torch

from aecli.build import build
from aecli.commands.evaluate import evaluate
from aecli.commands.train import train
from aecli.errors import SettingError
from aecli.evaluation.finetune import FineTuned, Finetuning
from aecli.runs.experiment import EVIDENCE, changes, report, verdict, with_accuracies
from aecli.runs.find import find
from aecli.runs.intervals import Interval
from aecli.runs.metrics_file import read_metrics, update_metrics
from tests.conftest import EXPERIMENTS, configure


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_whole(name):
    config, choices = configure(f"experiment={name}")
    assert choices["experiment"] == name
    published = config.published
    assert published.source
    assert published.evidence in EVIDENCE
    known = ("sse", "marginal_nll", "probe_error", "probe_accuracy", "finetune_error",
             "finetune_accuracy", "elbo", "f1")  # fmt: skip
    assert published.metric in known
    method = published.metric.partition("_")[0]
    if method in ("probe", "finetune"):
        assert config.eval.protocol == method  # else nothing computes the metric
    assert list(changes(name, config)) == []


def test_without_an_experiment_there_is_nothing_to_compare():
    config, choices = configure()
    assert config.published is None
    assert config.eval is None
    assert choices["experiment"] == "None"


def test_changes_are_the_settings_that_the_number_depends_on():
    config, _ = configure(
        "experiment=hinton2006/deep_ae",
        "trainer.max_epochs=3",
        "network.hidden=[5]",
        "optimizer=sgd",
        "seed=3",
        "output_dir=/tmp/x",
        "dataset.root=/tmp",
        "eval.pictures=false",
        "trainer=cpu",
    )
    found = list(changes("hinton2006/deep_ae", config))
    assert "trainer.max_epochs=3" in found
    assert "network.hidden=[5]" in found
    assert "optimizer.algorithm=sgd" in found
    assert "optimizer.betas left out" in found
    assert not any(
        change.startswith(("seed", "output", "dataset", "eval", "trainer.a")) for change in found
    )


def test_the_same_setting_typed_is_no_change():
    name = "kingma2013/vae_400"
    epochs = configure(f"experiment={name}")[0].trainer.max_epochs
    config, _ = configure(f"experiment={name}", "model=vae", f"trainer.max_epochs={epochs}")
    assert list(changes(name, config)) == []


def test_what_was_found_in_the_data_is_no_change():
    name = "synthsaebench/batch_topk_l25"
    config, _ = configure(f"experiment={name}")
    config.dataset.shape = [768]
    assert list(changes(name, config)) == []
    config, _ = configure(f"experiment={name}", "dataset.width=8")
    config.dataset.shape = [8]
    assert list(changes(name, config)) == ["dataset.width=8"]


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="aecli")
    logging.getLogger("aecli").propagate = True
    return caplog


def test_report_compares_and_is_kept(said, tmp_path):
    config, _ = configure("experiment=hinton2006/pca")
    report("hinton2006/pca", config, {"sse": 13.5}, tmp_path)
    assert "published 13.87 · here 13.5 · Δ -0.37" in said.text
    assert "Science 2006 (read there)" in said.text
    kept = json.loads((tmp_path / "metrics.json").read_text())["experiment"]
    assert kept["here"] == 13.5
    assert kept["difference"] == pytest.approx(-0.37)
    assert kept["changed"] == []


def test_report_of_a_changed_setting_names_it_instead(said, tmp_path):
    config, _ = configure("experiment=hinton2006/pca", "model.code_dim=29")
    report("hinton2006/pca", config, {"sse": 14.0}, tmp_path)
    assert "changed: model.code_dim=29 · here 14" in said.text
    assert "published 13.87" not in said.text
    assert "difference" not in json.loads((tmp_path / "metrics.json").read_text())["experiment"]


def test_report_without_the_metric_says_so(said, tmp_path):
    config, _ = configure("experiment=ng2011/stacked", "eval.protocol=none")
    report("ng2011/stacked", config, {"sse": 14.0}, tmp_path)
    assert "changed: eval.protocol=none · here no finetune_accuracy" in said.text


def test_a_test_error_has_its_interval_over_images(said, tmp_path):
    config, _ = configure("experiment=vincent2010/sdae3")
    update_metrics(tmp_path, {"test": {"classified_images": 10_000}})
    report("vincent2010/sdae3", config, {"finetune_error": 1.6}, tmp_path)
    assert "published 1.28 · here 1.6 [1.36, 1.87] · Δ +0.32" in said.text
    kept = json.loads((tmp_path / "metrics.json").read_text())["experiment"]
    assert kept["interval"] == pytest.approx([1.36, 1.87], abs=0.01)


@pytest.mark.parametrize(
    ("goal", "interval", "higher", "expected"),
    [
        (1.4, Interval(1.36, 1.87), False, "undecided"),
        (1.3, Interval(1.36, 1.87), False, "missed"),
        (1.9, Interval(1.36, 1.87), False, "reached"),
        (1.9, Interval(1.36, 1.87), True, "missed"),
        (1.3, Interval(1.36, 1.87), True, "reached"),
        (1.6, None, True, "reached"),
        (1.5, None, False, "missed"),
        (1.6, Interval(1.6, 1.6), False, "reached"),
    ],
)
def test_a_goal_within_the_interval_is_undecided(goal, interval, higher, expected):
    assert verdict(goal, 1.6, interval, higher=higher) == expected


def test_accuracy_is_what_the_error_leaves():
    assert with_accuracies({"probe_error": 1.5, "sse": 3.0}) == {
        "probe_error": 1.5,
        "sse": 3.0,
        "probe_accuracy": 98.5,
    }


SETTINGS = {
    "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "batch_size": 50, "max_epochs": 20,
    "patience": 20, "precision": "32-true",
}  # fmt: skip


def digits(*overrides):
    config, _ = configure("model=ae", "sparsity=sigmoid", *overrides)
    model, data = build(config, "model"), build(config, "dataset")
    data.setup()
    return model, data


def test_finetuning_learns_and_leaves_the_model_alone():
    model, data = digits()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    values = Finetuning(**SETTINGS)(model, data)
    assert values["finetune_error"] < 6
    assert values["finetune_val_error"] < 6
    assert 1 <= values["finetune_epochs"] <= 20
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_finetuning_stops_when_validation_does_not_improve():
    model, data = digits()
    finetune = Finetuning(**(SETTINGS | {"lr": 1e-12, "patience": 2}))
    assert finetune(model, data)["finetune_epochs"] <= 3


@pytest.mark.parametrize(
    ("key", "value"),
    [("lr", -1), ("patience", 0), ("precision", "16-true"), ("batch_size", 1.5), ("average", 1)],
)
def test_finetuning_refuses_what_cannot_be(key, value):
    with pytest.raises(SettingError, match=f"eval.finetune.{key}={value}: must be"):
        Finetuning(**(SETTINGS | {key: value}))


def test_finetuning_refuses_batches_that_cannot_be_normalized():
    model, data = digits("network.batch_norm=true")
    finetune = Finetuning(**(SETTINGS | {"batch_size": 1}))
    with pytest.raises(SettingError, match=r"batch_size=1: every batch must have 2 examples"):
        finetune(model, data)


@pytest.mark.parametrize("normalized", ["true", "false"])
def test_an_average_of_the_weights_is_taken_in_their_place(normalized, monkeypatch):
    model, data = digits(f"network.batch_norm={normalized}", "network.hidden=[9]")
    steps, taken = [], []
    step, error = torch.optim.SGD.step, FineTuned.error

    def stepped(self, closure=None):
        step(self, closure)
        steps.append([weight.detach().clone() for weight in self.param_groups[0]["params"]])

    def measured(self, batches):
        weights = [*self.model.encoder.parameters(), *self.softmax.parameters()]
        taken.append(
            ([w.clone() for w in weights], [b.clone() for b in self.model.encoder.buffers()])
        )
        return error(self, batches)

    monkeypatch.setattr(torch.optim.SGD, "step", stepped)
    monkeypatch.setattr(FineTuned, "error", measured)
    Finetuning(**(SETTINGS | {"max_epochs": 1, "average": 0.9}))(model, data)
    average = steps[0]
    for weights in steps[1:]:
        average = [0.9 * old + 0.1 * new for old, new in zip(average, weights, strict=True)]
    assert len(taken) == 2  # by validation and by the test
    for weights, statistics in taken:
        torch.testing.assert_close(weights, average)
        assert not any(torch.equal(*pair) for pair in zip(weights, steps[-1], strict=True))
        if normalized == "true":
            x = torch.cat([batch.original for batch in data.batches("train")]).flatten(1)
            mean = (x @ average[0].T + average[1]).mean(dim=0)
            torch.testing.assert_close(statistics[0], mean, rtol=0.01, atol=0.01)


def test_finetuning_that_diverges_says_so():
    model, data = digits()
    with pytest.raises(SettingError, match=r"eval\.finetune\.lr=1000000000.0: diverged"):
        Finetuning(**(SETTINGS | {"lr": 1e9, "weight_decay": 1e9, "max_epochs": 3}))(model, data)


def test_a_classifier_knows_its_classes_by_name():
    model, data = digits("dataset.classes=[3,7]")
    classifier = FineTuned(model, torch.tensor([3, 7]))
    with torch.no_grad():
        classifier.softmax.bias.copy_(torch.tensor([0.0, 1.0]))
        classifier.softmax.weight.zero_()
    test = data.batches("test")
    share = (data.splits["test"].labels == 3).float().mean().item()
    assert classifier.error(test) == pytest.approx(100 * share)
    x, label = torch.rand(2, 1, 8, 8), torch.tensor([7, 3])
    expected = torch.tensor([1.0, 0.0]).log_softmax(0)
    assert classifier.loss(x, label).item() == pytest.approx(
        -(expected[0] + expected[1]).item() / 2
    )


def run(directory, mnist, name, *overrides):
    """Run a short form of an experiment; return its test metrics."""
    config, choices = configure(f"experiment={name}", f"dataset.root={mnist}", *overrides)
    torch.set_num_threads(2)
    train(config, directory, choices)
    (found,) = find(str(directory))
    config.eval.pictures = False
    values = evaluate(found, config.eval, config.seed, root=str(mnist))
    assert read_metrics(directory)["choices"]["experiment"] == name
    return with_accuracies(values)


@pytest.mark.slow
def test_pca_has_the_published_error(tmp_path, mnist):
    values = run(tmp_path, mnist, "hinton2006/pca", "pictures_every=0")
    assert values["sse"] == pytest.approx(13.87, abs=0.02)


FEW = ("pictures_every=0", "dataset.train_size=3000", "dataset.test_size=2000")


@pytest.mark.slow
def test_deep_ae_needs_its_pretraining(tmp_path, mnist):
    short = (*FEW, "trainer.max_epochs=3")
    name = "hinton2006/deep_ae"
    pretrained = run(tmp_path / "a", mnist, name, "pretraining.epochs=3", *short)
    barely = run(tmp_path / "b", mnist, name, "pretraining.epochs=1", "pretraining.lr=1e-9", *short)
    assert pretrained["sse"] < 34
    assert pretrained["sse"] < 0.7 * barely["sse"]


@pytest.mark.slow
def test_deep_ae_batch_norm_learns_fast(tmp_path, mnist):
    short = (*FEW, "trainer.max_epochs=10")
    assert run(tmp_path, mnist, "hinton2006/deep_ae_batch_norm", *short)["sse"] < 22


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pretraining", "plain"),
    [
        ("vincent2010/sdae3", (), ()),
        ("hinton2006/dbn3", ("pretraining.lr=0.1",), ("eval.finetune.momentum=0",)),
    ],
)
def test_pretraining_helps_the_classifier(tmp_path, mnist, name, pretraining, plain):
    few_labels = ("eval.train_size=500", "eval.finetune.max_epochs=30")
    short = (*FEW, "network.hidden=[200]", "model.code_dim=200", *few_labels)
    words = ("pretraining.epochs=5", *pretraining, *short)
    pretrained = run(tmp_path / "a", mnist, name, *words)
    mlp = run(tmp_path / "b", mnist, "vincent2010/mlp", *plain, *short)
    assert pretrained["finetune_error"] < 18
    assert pretrained["finetune_error"] < mlp["finetune_error"]


@pytest.mark.slow
def test_contraction_is_paid_by_the_reconstruction_and_not_by_the_classifier(tmp_path, mnist):
    few_labels = ("eval.train_size=500", "eval.finetune.max_epochs=15")
    short = (*FEW, "model.code_dim=200", "trainer.max_epochs=25", *few_labels)
    contractive = run(tmp_path / "a", mnist, "rifai2011/contractive", *short)
    plain = run(tmp_path / "b", mnist, "rifai2011/plain", *short)
    assert contractive["sse"] > plain["sse"] + 1
    assert contractive["finetune_error"] < 18


@pytest.mark.slow
def test_self_taught_features_beat_pixels_on_other_digits(tmp_path, mnist):
    values = run(
        tmp_path, mnist, "ng2011/self_taught", "pictures_every=0",
        "dataset.train_size=4000", "eval.train_size=4000", "trainer.max_epochs=3",
    )  # fmt: skip
    assert values["probe_accuracy"] > 97
    assert values["probe_error"] < values["probe_error_pixels"] - 0.5
    assert values["mean_activation"] == pytest.approx(0.1, abs=0.02)


@pytest.mark.slow
def test_stacked_sparse_autoencoder_classifies(tmp_path, mnist):
    short = (*FEW, "pretraining.epochs=2", "eval.finetune.max_epochs=20")
    assert run(tmp_path, mnist, "ng2011/stacked", *short)["finetune_accuracy"] > 65


@pytest.mark.slow
def test_k_sparse_features_beat_pixels(tmp_path, mnist):
    short = (*FEW, "model.code_dim=400", "trainer.max_epochs=8")
    values = run(tmp_path, mnist, "makhzani2013/k25", *short)
    assert values["probe_error"] < values["probe_error_pixels"] - 1
    assert values["l0"] == 75  # alpha · k


@pytest.mark.slow
def test_winner_take_all_features_beat_pixels(tmp_path, mnist):
    short = (*FEW, "model.code_dim=400", "trainer.max_epochs=20", "optimizer.lr=5e-3")
    values = run(tmp_path, mnist, "makhzani2015/fc_wta", *short)
    assert values["probe_error"] < values["probe_error_pixels"] - 2


@pytest.mark.slow
def test_vae_400_learns_and_its_estimate_is_above_the_bound(tmp_path, mnist):
    short = (*FEW, "trainer.max_epochs=5", "optimizer.lr=2e-3", "eval.importance_samples=20")
    values = run(tmp_path, mnist, "kingma2013/vae_400", *short)
    assert values["marginal_nll"] < -values["elbo"] - 2
    assert values["marginal_nll"] < 180


@pytest.mark.slow
def test_a_wider_code_has_the_higher_likelihood(tmp_path, mnist):
    short = (
        *FEW, "dataset.batch_size=25", "trainer.max_epochs=6", "model.warmup_epochs=1",
        "eval.importance_samples=20",
    )  # fmt: skip
    two = run(tmp_path / "2", mnist, "kingma2013/d2", *short)["marginal_nll"]
    ten = run(tmp_path / "10", mnist, "kingma2013/d10", *short)["marginal_nll"]
    assert ten < two - 5
    assert ten < 175


@pytest.mark.slow
def test_iwae_has_the_tighter_bound(tmp_path, mnist):
    short = (*FEW, "trainer.max_epochs=4", "eval.importance_samples=20")
    vae = run(tmp_path / "1", mnist, "burda2015/vae", *short)
    iwae = run(tmp_path / "5", mnist, "burda2015/iwae5", *short)
    assert vae["bound"] == pytest.approx(vae["elbo"], abs=0.5)
    assert iwae["bound"] > iwae["elbo"] + 0.5
    assert iwae["marginal_nll"] < 230


@pytest.mark.slow
def test_a_vamp_prior_is_learned_with_gated_layers(tmp_path, mnist):
    short = (
        *FEW, "dataset.batch_size=25", "trainer.max_epochs=6", "trainer.precision=32-true",
        "model.warmup_epochs=1", "optimizer.lr=3e-3", "optimizer.warmup=0.1",
        "eval.importance_samples=20",
    )  # fmt: skip
    normal = run(tmp_path / "a", mnist, "tomczak2018/vae", *short)
    vamp = run(tmp_path / "b", mnist, "tomczak2018/vamp", *short, "prior.pseudo_inputs=50")
    for values in (normal, vamp):
        assert values["marginal_nll"] < -values["elbo"] - 2
        assert values["marginal_nll"] < 165
    assert vamp["marginal_nll"] < normal["marginal_nll"]
