"""A part of each kind of a user's own, and data sets, through the commands."""

import pytest

from tests.commandline import aecli
from tests.test_own_parts import CHEAP, RUN, TINY

KINDS = """
import torch
from torch import nn
from aecli.likelihoods import Gaussian
from aecli.models import VAE
from aecli.networks import EncoderDecoder, Network
from aecli.optimizers import Optimization
from aecli.pretraining import Pretraining
from aecli.priors import Prior
from aecli.randomness import TORCH
from aecli.sparsity import SparseCode, Sparsity

class Softplus(Sparsity):
    def forward(self, a):
        code = nn.functional.softplus(a)
        return SparseCode(code, self.penalty(code.mean(dim=0)))
    def penalty(self, mean):
        return mean.sum()

class Deep(Network):
    def __init__(self, shape, width):
        self.shape, self.width = list(shape), width
    def build(self, code_dim, outputs):
        size = torch.Size(self.shape).numel()
        down = [nn.Flatten(), nn.Linear(size, self.width), nn.ReLU()]
        up = [nn.Linear(code_dim, self.width), nn.ReLU(), nn.Linear(self.width, size)]
        return EncoderDecoder(
            nn.Sequential(*down, nn.Linear(self.width, outputs)),
            nn.Sequential(*up, nn.Unflatten(1, self.shape)),
        )

class Sharp(Gaussian):
    def __init__(self):
        super().__init__(0.1)

class Signs(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * p.grad.sign())
        return loss

class Signed(Optimization):
    ALGORITHMS = Optimization.ALGORITHMS | {"signs": Signs}

class Wide(Prior):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
    def log_prob(self, z):
        return torch.distributions.Normal(0.0, self.scale).log_prob(z).sum(dim=-1)
    def sample(self, like, *samples, draws=TORCH):
        return self.scale * draws.normal(like, *samples)

class Zeros(Pretraining):
    def __call__(self, model, data):
        for p in model.decoder.parameters():
            nn.init.zeros_(p)

class Doubled(VAE):
    def terms(self, *given, **named):
        terms = super().terms(*given, **named)
        return terms._replace(loss=2 * terms.loss)
"""
OPTIONS = {
    "sparsity": "_target_: my_kinds.Softplus",
    "network": "_target_: my_kinds.Deep\nshape: ${dataset.shape}\nwidth: 9",
    "likelihood": "_target_: my_kinds.Sharp",
    "optimizer": "_target_: my_kinds.Signed\nalgorithm: signs\nlr: 0.01",
    "pretraining": "_target_: my_kinds.Zeros",
    "prior": "_target_: my_kinds.Wide",
    "model": ("# @package _global_\ndefaults: [vae]\n\nmodel:\n  _target_: my_kinds.Doubled\n"),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Return a folder with a part of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "my_kinds.py").write_text(KINDS)
    for group, text in OPTIONS.items():
        (folder / "my_conf" / group).mkdir(parents=True)
        (folder / "my_conf" / group / "mine.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("group", OPTIONS)
def test_a_part_of_each_kind_is_trained_evaluated_and_resumed(kinds, group):
    words = ("--config-dir", "my_conf", f"{group}=mine", "plugins=[my_kinds]")
    model = () if group in ("model", "prior") else ("model=ae",)
    tiny = TINY if group != "network" else (*TINY[:2], "network.width=5", TINY[3])
    done = aecli("train", *tiny, *words, *model, f"hydra.run.dir=out/{group}", cwd=kinds)
    assert (done.returncode, done.stderr) == (0, "")
    again = (f"resume=out/{group}", "trainer.max_epochs=2", "plugins=[my_kinds]")
    for line in (
        ("eval", f"run=out/{group}", "plugins=[my_kinds]", *CHEAP),
        ("train", *again),
        ("verify", f"out/{group}", "plugins=[my_kinds]"),
    ):
        done = aecli(*line, cwd=kinds)
        assert (done.returncode, done.stderr) == (0, ""), line
    done = aecli("eval", f"run=out/{group}", cwd=kinds)
    assert "made with my_kinds; add plugins=[my_kinds] if you trust it" in done.stderr


DATA = '''
import torch
from aecli.data import Card, DataModule, Records, Scaled, Source

class Bars(Source):
    """Rows that are on or off."""
    def read(self, root, card):
        on = torch.arange(64 * 40).reshape(40, 1, 8, 8) % 7 == 0
        return Records(on.byte())
    def fit(self, records, rows):
        return Scaled(records.data.shape[1:], 1)

class Module(DataModule):
    def __init__(self, **settings):
        super().__init__(Bars(), **settings)
'''
OPTION = """
# @package _global_
dataset:
  _target_: my_data.Module
  root: null
  shape: [1, 8, 8]
  batch_size: 8
  validation_size: 8
  test_size: 8
"""


def test_an_own_data_set_needs_its_option_no_more(tmp_path):
    (tmp_path / "my_data.py").write_text(DATA)
    (tmp_path / "my_conf" / "dataset").mkdir(parents=True)
    (tmp_path / "my_conf" / "dataset" / "bars.yaml").write_text(OPTION)
    words = ("--config-dir", "my_conf", "dataset=bars", "plugins=[my_data]", "model=ae")
    done = aecli("train", *TINY[:3], *words, "hydra.run.dir=out/run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for config_dir in ((), words[:2]):
        done = aecli("eval", RUN, "plugins=[my_data]", *CHEAP, *config_dir, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    source = OPTION.replace("_target_: my_data.Module", "source: {_target_: my_data.Bars}")
    own = tmp_path / "my_conf" / "dataset" / "own_source.yaml"
    own.write_text(source.replace("dataset:", "defaults: [digits]\n\ndataset:", 1))
    words = (*words[:2], "dataset=own_source", *words[3:])
    done = aecli("train", *TINY[:3], *words, "hydra.run.dir=out/second", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = aecli("eval", "run=out/second", "plugins=[my_data]", *CHEAP, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = aecli("data", *words[:4], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = aecli("verify", "plugins=[my_data]", "out/run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


PRESET = "# @package _global_\ndefaults: [{base}]\n\ndataset:\n  validation_size: 20\n"


def test_an_option_for_a_data_set_of_aecli_is_not_needed_again(tmp_path):
    (tmp_path / "my_conf" / "dataset").mkdir(parents=True)
    (tmp_path / "my_conf" / "dataset" / "few.yaml").write_text(PRESET.format(base="digits"))
    words = ("--config-dir", "my_conf", "dataset=few", "model=ae", "hydra.run.dir=out/run")
    assert aecli("train", *TINY, *words, cwd=tmp_path).returncode == 0
    for line in (("eval", RUN, *CHEAP), ("verify", "out/run")):
        done = aecli(*line, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
