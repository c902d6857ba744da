"""`aecli eval eval=theory` as a user types it."""

import json

import pytest
from PIL import Image

from aecli.runs.listed import foreign_files
from tests.commandline import aecli, is_one_line

SMALL = ("trainer=debug", "network.hidden=[8]", "model.code_dim=3", "pictures_every=0")
THEORY = ("eval=theory", "eval.gap_images=2", "eval.gradient_images=1", "eval.protocol=none")


@pytest.mark.slow
def test_a_sweep_has_its_numbers_how_they_were_made_and_its_pictures(tmp_path):
    words = ("model.beta=0.5,4", "hydra.sweep.dir=sweep")
    done = aecli("train", "-m", "model=vae", *SMALL, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cheap = ("eval.importance_samples=0", "eval.noise_levels=[]")
    done = aecli("eval", "run=sweep", *THEORY, *cheap, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "written: sweep/rate_distortion.png" in done.stdout
    assert "gap_sampled" in done.stdout
    with Image.open(tmp_path / "sweep" / "rate_distortion.png") as picture:
        assert min(picture.size) > 400
    runs = [path for path in (tmp_path / "sweep").iterdir() if path.is_dir()]
    assert len(runs) == 2
    for run in runs:
        test = json.loads((run / "metrics.json").read_text())["test"]
        how = test["theory"]["how"]
        assert how.keys() < test.keys()
        assert "± " in how["gap_sampled"]
        assert "≤ log p(x) − ELBO, 5,000 samples of z, 2 images" in how["gap_sampled"]
        assert {"gap_kl", "marginal_nll"}.isdisjoint(test)
        steps = [each["step"] for each in test["theory"]["gradient_variance"]]
        assert steps[0] == 0 < steps[-1]
        assert len(test["theory"]["unit_kl"]) == 3
        drawn = {path.stem for path in (run / "eval").iterdir()}
        assert {"gap", "gradients", "aggregate", "generated"} <= drawn
        assert not foreign_files(run)  # aecli runs --prune may delete it
    done = aecli("compare", "sweep", "--metric", "test/gap_sampled", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_model_without_a_posterior_is_refused_in_a_line(tmp_path):
    done = aecli("train", "model=ae", *SMALL, "hydra.run.dir=ae", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = aecli("eval", "run=ae", "eval=theory", cwd=tmp_path)
    assert is_one_line(done)
    assert "model=ae has no posterior q(z|x)" in done.stderr
    assert not (tmp_path / "ae" / "eval").exists()
    words = ("eval.generated_images=100", "eval.protocol=none", "eval.pictures=false")
    done = aecli("eval", "run=ae", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "generated_precision_normal" in done.stdout
