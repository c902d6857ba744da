"""Whole trainings, eval and samples on the digits, in process."""

import json
import logging
import math
import re
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import seed_everything

from aecli.commands.evaluate import _without_common_end
from aecli.commands.evaluate import main as evaluate
from aecli.commands.sample import KINDS
from aecli.commands.sample import main as sample
from aecli.commands.train import train
from aecli.commands.train_report import next_lines
from aecli.errors import SettingError
from aecli.runs.find import find
from aecli.runs.load import load
from aecli.runs.metrics_file import read_metrics
from tests.commandline import aecli
from tests.conftest import DICTIONARIES, PROBABILISTIC, STEPWISE, VARIANTS, configure, small
from tests.events import events, hparams_of

SHORT = ("trainer.max_epochs=2", "pictures_every=2", "network.hidden=[32]")


def run(directory, *overrides):
    config, choices = configure(*overrides)
    train(config, directory, choices)
    return read_metrics(directory)["val"]["loss"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Train each variant once, for all tests of this module."""
    root = tmp_path_factory.mktemp("outputs")
    for variant in VARIANTS:
        code = ["model.code_dim=2"] if variant == "ae" else []
        run(root / variant, *small(variant), *SHORT[:2], *code)
    return root


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_holds_its_checkpoints_metrics_and_events(runs, variant):
    directory = runs / variant
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
    }
    metrics = read_metrics(directory)
    assert metrics["choices"]["model"] == variant
    assert metrics["epochs"] == (2 if variant in STEPWISE else 1)
    assert all(math.isfinite(value) for value in metrics["val"].values())
    assert ("elbo" in metrics["val"]) == (variant in PROBABILISTIC)
    logged = events(directory)
    scalars = set(logged.Tags()["scalars"])
    assert {"val/loss", "val/penalty", "val/mse"} <= scalars
    if variant in STEPWISE:
        assert {"train/loss", "train/penalty", "train/l0", "train/dead_share"} <= scalars
    images = logged.Tags()["images"]
    assert "reconstructions" in images
    assert ("samples" in images) == (variant in PROBABILISTIC)
    assert (directory / "projector_config.pbtxt").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "model.warmup_epochs=8 model.beta=4",
            "model.warmup_epochs=8: longer .* a beta of 1; .* 4",
        ),
        ("model.warmup_steps=1000", "model.warmup_steps=1000: longer than the training"),
        ("model.warmup_epochs=2", ""),
    ],
)
def test_a_warm_up_that_the_training_is_too_short_for_is_named(words, told, tmp_path, caplog):
    caplog.set_level("INFO")
    run(tmp_path, *SHORT[:1], *SHORT[2:], "model=vae", *words.split())
    assert re.search(told, caplog.text) if told else "longer than" not in caplog.text


@pytest.mark.parametrize("variant", VARIANTS)
def test_hparams_are_the_settings_that_a_run_has(runs, variant):
    metadata, settings = hparams_of(runs / variant)
    assert settings["model"].string_value == variant
    assert settings["code_dim"].number_value > 1
    assert ("beta" in settings) == ("beta" in configure(f"model={variant}")[0].model)
    # One run's list of columns would be that of all: TensorBoard finds them itself.
    assert "_hparams_/experiment" not in metadata


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_saved_is_what_was_trained(runs, variant, images):
    first, second = (load(find(str(runs / variant))[0]).model for _ in range(2))
    assert not first.training
    with torch.no_grad():
        assert torch.equal(first.reconstruct(images), second.reconstruct(images))
    saved = torch.load(runs / variant / "checkpoints" / "best.ckpt", weights_only=True)
    for name, value in first.state_dict().items():
        assert torch.equal(value, saved["state_dict"][name]), name


def test_validation_metrics_are_those_of_the_best_checkpoint(runs):
    from aecli.evaluation import metrics

    loaded = load(find(str(runs / "dae"))[0])
    values = metrics.reconstruction(loaded.model, loaded.data.batches("validation"))
    assert values["loss"] == pytest.approx(read_metrics(runs / "dae")["val"]["loss"], rel=1e-5)
    assert values["mse"] == pytest.approx(read_metrics(runs / "dae")["val"]["mse"], rel=1e-5)


def test_one_seed_gives_the_same_numbers_twice_and_two_seeds_do_not(tmp_path):
    losses = [
        run(tmp_path / str(i), "model=vae", "noise=gaussian", f"seed={seed}", *SHORT)
        for i, seed in enumerate([0, 0, 1])
    ]
    assert losses[0] == losses[1] != losses[2]


def test_training_flushes_denormal_numbers(tmp_path):
    torch.set_flush_denormal(False)
    run(tmp_path, "trainer.max_epochs=0", "pictures_every=0")
    assert torch.tensor(1e-39) * 2 == 0


def test_pictures_do_not_change_the_training(tmp_path):
    without = [*SHORT, "pictures_every=0"]
    assert run(tmp_path / "a", *SHORT) == run(tmp_path / "b", *without)
    assert not (tmp_path / "b" / "projector_config.pbtxt").exists()


@pytest.mark.parametrize("variant", VARIANTS)
def test_eval_writes_metrics_and_pictures(runs, variant, capsys):
    config, _ = configure(f"run={runs / variant}", "eval.importance_samples=5", command="eval")
    evaluate(config)
    test = json.loads((runs / variant / "metrics.json").read_text())["test"]
    expected = {"loss", "mse", "sse", "psnr", "ssim", "l0", "dead_share", "probe_error"}
    if variant in PROBABILISTIC:
        expected |= {"nll", "kl", "elbo", "marginal_nll", "active_units"}
        assert test["marginal_nll"] < -test["elbo"]
    assert expected <= test.keys()
    assert test["sse"] == pytest.approx(64 * test["mse"], rel=1e-4)
    assert test["probe_error_pixels"] < 10
    assert test["classified_images"] == 360
    pictures = {path.name for path in (runs / variant / "eval").iterdir()}
    names = {"reconstructions", "activations", "codes", "filters"}
    names |= {"firing_rates"} if variant in DICTIONARIES else set()
    assert pictures == {f"{name}.png" for name in names}
    out = capsys.readouterr().out
    assert "probe_error" in out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("eval.protocol=labels", "eval.protocol=labels: must be one of probe, finetune, none"),
        ("eval.classes=[0,12]", r"eval.classes, .*\[0, 12\]: must be a list out of"),
        ("eval.train_size=99999", "eval.train_size: .*=99999: must leave examples"),
        ("eval.finetune.lr=-1", "eval.finetune.lr=-1.0: must be a number"),
        ("eval.checkpoint=first", "eval.checkpoint=first: must be one of best, last"),
        ("eval.finetune.momentum=1", r"momentum=1.0: must be a number in \[0, 1\["),
        ("eval.pictures=3", "eval.pictures=3: must be true or false"),
    ],
)
def test_eval_tells_a_mistake_before_it_measures(runs, caplog, override, message):
    config, _ = configure(f"run={runs / 'ae'}", override, command="eval")
    with pytest.raises(SettingError, match=message):
        evaluate(config)
    assert "measuring" not in caplog.text


def test_eval_of_other_classes_and_of_the_last_checkpoint(runs):
    config, _ = configure(
        f"run={runs / 'sparse_ae'}", "eval.classes=[0,1]", "eval.train_size=50",
        "eval.checkpoint=last", "eval.pictures=false", command="eval",
    )  # fmt: skip
    evaluate(config)
    test = read_metrics(runs / "sparse_ae")["test"]
    assert test["checkpoint"] == "last.ckpt"
    assert test["probe_error"] < 10
    assert test["probe_error_pixels"] < 2  # zeros and ones are easily told apart
    loaded = load(find(str(runs / "sparse_ae"))[0])
    few = replace(loaded, config=loaded.config.copy())
    few.config.dataset.train_size = 100
    assert len(few.labelled_data([0, 1], None).splits["train"].labels) == 100
    assert len(few.labelled_data(None, 40).splits["train"].labels) == 40
    labelled = loaded.labelled_data([0, 1], 50)
    assert len(labelled.splits["train"].labels) == 50
    assert set(labelled.splits["test"].labels.tolist()) == {0, 1}
    assert len(loaded.data.splits["train"].labels) > 1000


def test_batch_norm_is_fine_tuned_where_a_last_batch_would_have_one_example(tmp_path):
    run(tmp_path / "run", *SHORT, "model=ae", "network.batch_norm=true", "dataset.batch_size=100")
    config, _ = configure(
        f"run={tmp_path / 'run'}", "eval.protocol=finetune", "eval.finetune.average=0.9",
        "eval.train_size=101", "eval.finetune.max_epochs=1", "eval.pictures=false", command="eval",
    )  # fmt: skip
    evaluate(config)
    assert 0 <= read_metrics(tmp_path / "run")["test"]["finetune_error"] <= 100


def test_eval_of_a_folder_of_runs_compares_them(runs, capsys):
    config, _ = configure(
        f"run={runs}", "eval.protocol=none", "eval.pictures=false", "eval.importance_samples=0",
        command="eval",
    )  # fmt: skip
    evaluate(config)
    table = capsys.readouterr().out.split("test set")[-1]
    assert all(variant[:8] in table for variant in VARIANTS)


def test_a_table_of_a_sweep_leaves_out_what_all_names_end_with():
    names = ["0_model-pca_dataset-mnist_seed-1", "1_model-sparse_ae_dataset-mnist_seed-1"]
    assert _without_common_end(names) == ["0_model-pca", "1_model-sparse_ae"]
    assert _without_common_end(["a", "b_c"]) == ["a", "b_c"]


@pytest.mark.parametrize(
    ("variant", "settings", "count"),
    [
        ("vae", ["kind=prior", "n=9"], 9),
        ("ae", ["kind=prior", "n=9", "density=gaussian"], 9),
        ("ksparse_ae", ["kind=prior", "n=9", "density=gmm"], 9),
        ("pca", ["kind=reconstruct", "n=9"], 18),
        ("vae", ["kind=interpolate", "n=3", "steps=5"], 15),
        ("dae", ["kind=interpolate", "classes=[3,8]", "steps=5"], 5),
        ("dae", ["kind=interpolate", "images=[0,1]", "steps=5"], 5),
        ("ae", ["kind=manifold", "steps=4"], 16),
        ("vae", ["kind=traverse", "steps=4"], 80),
        ("sparse_ae", ["kind=traverse", "n=6", "steps=4", "images=[2]"], 24),
    ],
)
def test_sample_writes_a_picture_and_arrays_and_overwrites_nothing(runs, variant, settings, count):
    import numpy as np

    config, _ = configure(f"run={runs / variant}", *settings, command="sample")
    before = set((runs / variant / "samples").glob("*"))
    sample(config)
    sample(config)
    new = sorted(set((runs / variant / "samples").glob("*")) - before)
    assert len(new) == 4
    arrays = [np.load(path) for path in new if path.suffix == ".npz"]
    assert arrays[0]["images"].shape == (count, 1, 8, 8)
    assert len(arrays[0]["codes"]) == count
    assert np.array_equal(arrays[0]["images"], arrays[1]["images"])


@pytest.mark.parametrize(
    ("variant", "settings", "message"),
    [
        ("dae", ["kind=prior"], "kind=prior: model=dae has no prior .* density=gaussian"),
        ("dae", ["kind=manifold"], "kind=manifold: needs a code of 2 units, .* has 30"),
        ("dae", ["kind=dream"], f"kind=dream: must be one of {', '.join(KINDS)}"),
        ("dae", ["kind=prior", "density=flow"], "density=flow"),
        ("vae", ["n=0"], "n=0"),
        ("vae", ["kind=interpolate", "classes=[3]"], r"classes=\[3\]: must be a list of 2"),
        ("vae", ["kind=interpolate", "classes=[3,77]"], "classes=77: no such class"),
        ("vae", ["kind=interpolate", "images=[0,360]"], "images=360: .* from 0 to 359"),
        ("vae", ["kind=traverse", "images=[0,1]"], "takes one test example"),
        ("vae", ["kind=traverse", "steps=1"], "steps=1"),
        ("vae", ["kind=traverse", "n=21"], r"n=21: .* from 1 to 20 \(the units of the code\)"),
        ("vae", ["kind=reconstruct", "n=361"], r"n=361: .* to 360 \(the test set's examples\)"),
        ("vae", ["kind=reconstruct", "steps=3"], "steps=3: goes with kind=interpolate, manifold, "),
        ("vae", ["kind=prior", "span=2"], "span=2.0: goes with kind=manifold, traverse, not prior"),
        ("vae", ["kind=manifold", "n=3"], "n=3: goes with kind=prior, reconstruct, interpolate, "),
        ("vae", ["kind=manifold", "span=2"], "span=2.0: a model with a prior spans that"),
        ("vae", ["kind=interpolate", "n=3", "classes=[0,1]"], "n=3: classes=… makes one row"),
        ("vae", ["output_dir=''"], "output_dir='': must be a folder"),
        ("vae", ["output_dir=elsewhere"], "output_dir=elsewhere: goes with run=latest, not with"),
        ("vae", ["density=gmm", "kind=traverse"], "density=gmm: goes with kind=prior, not"),
        ("vae", ["kind=interpolate", "images=[0,1]", "classes=[0,1]"], "one of the two"),
        ("vae", ["device=tpu"], "device=tpu"),
        (".", [], f"holds {len(VARIANTS)} runs; name one"),
    ],
)  # fmt: skip
def test_sample_refuses_what_cannot_be(runs, variant, settings, message):
    config, _ = configure(f"run={runs / variant}", *settings, command="sample")
    with pytest.raises(SettingError, match=message):
        sample(config)


def test_a_vae_walks_the_manifold_in_steps_of_probability(tmp_path):
    import numpy as np

    run(tmp_path, "model=vae", "model.code_dim=2", *SHORT)
    config, _ = configure(f"run={tmp_path}", "kind=manifold", "steps=3", command="sample")
    sample(config)
    codes = np.load(tmp_path / "samples" / "manifold.npz")["codes"].reshape(3, 3, 2)
    quartile = 0.6744898
    assert codes[0, :, 0] == pytest.approx([-quartile, 0, quartile], abs=1e-6)
    assert codes[:, 0, 1] == pytest.approx([quartile, 0, -quartile], abs=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["likelihood=bernoulli", "dataset.binarize=none"], "likelihood=bernoulli: .* grey"),
        (["seed=-1"], "seed=-1"),
        (["early_stopping.patience=0"], "early_stopping.patience=0"),
        (["pictures_every=-1"], "pictures_every=-1"),
        (["dataset.batch_size=0"], "dataset.batch_size=0"),
        (["optimizer.lr=1e9", "optimizer=sgd"], "training diverged: .* optimizer.lr"),
    ],
)
def test_train_refuses_what_cannot_be(tmp_path, overrides, message):
    with pytest.raises(SettingError, match=message):
        run(tmp_path, *SHORT, *overrides)


@pytest.mark.parametrize("name", ["conv", "linear", "linear_tied"])
def test_other_networks_train(tmp_path, name):
    loss = run(tmp_path, f"network={name}", "trainer=debug", "sparsity=l1")
    assert math.isfinite(loss)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model.warmup_epochs=1", "model.beta=2"], [0.0, 1.0, 2.0]),
        (["model.warmup_steps=156", "model.beta=1"], [0.0, 0.25, 0.5]),
    ],
)
def test_beta_warms_up(tmp_path, monkeypatch, overrides, expected):
    from aecli.models import VAE

    seen = []
    original = VAE.terms

    def terms(self, x, *rest):
        result = original(self, x, *rest)
        if self.training:
            seen.append(((result.loss - result.nll) / result.kl).item())
        return result

    monkeypatch.setattr(VAE, "terms", terms)
    run(tmp_path, *SHORT, *overrides)
    # 39 batches an epoch: the first, the middle and the last step of the warm-up.
    assert [
        seen[0],
        seen[39 // 2 if "epochs" in overrides[0] else 39],
        seen[39 if "epochs" in overrides[0] else 77],
    ] == pytest.approx(expected, abs=0.03)


def test_early_stopping_and_best_checkpoint(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run(
        tmp_path, "optimizer.lr=1e-12", "early_stopping.patience=2", "early_stopping.min_delta=1",
        "trainer.max_epochs=9", "pictures_every=0",
    )  # fmt: skip
    assert read_metrics(tmp_path)["epochs"] == 3
    assert "stopped early" in caplog.text


def test_seed_zero_is_a_seed(tmp_path):
    seed_everything(7, verbose=False)
    first = run(tmp_path / "a", "seed=0", *SHORT)
    seed_everything(8, verbose=False)
    assert run(tmp_path / "b", "seed=0", *SHORT) == first


@pytest.mark.parametrize("word", ["network.init=glorot", "network.output_bias=data"])
def test_a_start_that_the_pretraining_replaces_is_refused(tmp_path, word):
    words = ("model=ae", "network.activation=sigmoid", "likelihood=cross_entropy")
    done = aecli("train", *words, "pretraining=rbm", word, cwd=tmp_path)
    told = f"aecli: {word}: pretraining draws weights and biases of its own; leave it null\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_it_ends_with_what_to_type_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, _ = configure("model=ae", "network.hidden=[8]")
    lines = next_lines(config, tmp_path / "outputs" / "ae").splitlines()
    assert lines == [
        "next:",
        "  aecli eval run=outputs/ae",
        "  aecli sample run=outputs/ae kind=reconstruct",
        "  aecli explore run=outputs/ae out=explore.html",
        "  tensorboard --logdir outputs",
    ]


def test_a_training_that_was_still_falling_says_how_to_go_on(tmp_path):
    def end(*words):
        quick = ("model=ae", "network.hidden=[8]", "pictures_every=0")
        done = aecli("train", *quick, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-2:]

    said, line = end("trainer.max_epochs=6")
    assert said == "the validation loss was still falling; to train for longer:"
    assert line.startswith("  aecli train resume=outputs/ae-digits/")
    assert line.endswith(" trainer.max_epochs=12")
    assert aecli(*line.split()[1:], cwd=tmp_path).returncode == 0
    assert "resume=" not in end("trainer.max_epochs=6", "optimizer.schedule=cosine")[1]
    assert "resume=" not in end("trainer.max_epochs=30", "optimizer.lr=0.5")[1]


def test_what_is_next_of_a_table_is_files(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{n % 7},{n % 5}.5\n" for n in range(90)))
    words = ("trainer=debug", "dataset=table", "dataset.file=t.csv", "pictures_every=0")
    done = aecli("train", *words, cwd=tmp_path)
    lines = [line for line in done.stdout.splitlines() if line.startswith("  aecli ")]
    assert [line.split()[1] for line in lines] == ["eval", "sample", "score", "explore"]
    for line in lines[1:3]:
        assert aecli(*line.split()[1:], cwd=tmp_path).returncode == 0
    assert {"samples.csv", "scores.csv"} < {path.name for path in tmp_path.iterdir()}
