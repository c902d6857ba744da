"""A part of a plugin that breaks its contract is told by name; those of aecli keep it."""

import pytest
import torch
from torch import Tensor, nn

from aecli import plugins
from aecli.build import build
from aecli.data import DataModule
from aecli.errors import SettingError
from aecli.likelihoods import Gaussian, Likelihood
from aecli.models import VAE, Autoencoder
from aecli.networks import MLP, EncoderDecoder
from aecli.noise import Noise
from aecli.optimizers import Optimization
from aecli.priors import Standard
from aecli.sparsity import L1, SparseCode, Sparsity
from aecli.training import contract
from aecli.training.contract import Part, check_parts
from tests.conftest import SPARSITIES, VARIANTS, configure, options
from tests.hostile import is_one_plain_line


@pytest.fixture(scope="module")
def data():
    found = build(configure("dataset.train_size=64")[0], "dataset")
    found.setup("fit")
    return found


@pytest.fixture
def ours(monkeypatch):
    """Try the parts of one group as if they were a plugin's."""

    def take(group: str) -> None:
        part = Part(f"{group}=mine (mine.Mine)", "mine")
        own = lambda config, choices, asked: part if asked == group else None  # noqa: E731
        monkeypatch.setattr(contract, "own_part", own)

    return take


OPTIONS = [
    (group, name)
    for group in ("noise", "sparsity", "network", "likelihood", "prior", "optimizer")
    for name in (SPARSITIES if group == "sparsity" else options(group))
    if name not in ("mixed", "adam_dictionary") and (group, name) != ("network", "none")
]


@pytest.mark.parametrize(("group", "name"), OPTIONS, ids=str)
def test_the_parts_of_aecli_keep_the_contract(group, name, data, ours):
    if (group, name) == ("noise", "none"):
        pytest.skip("has nothing to corrupt with")
    ours(group)
    model = "model=vae" if group == "prior" else "model=ae"
    words = ("sparsity.rate=0.5",) if name == "lifetime" else ()  # of the few examples
    config, choices = configure(model, f"{group}={name}", "model.code_dim=200", *words)
    check_parts(config, choices, build(config, "model"), data)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_variants_keep_the_contract(variant, data, ours):
    ours("model")
    config, choices = configure(f"model={variant}")
    check_parts(config, choices, build(config, "model"), data)


class Crops(Noise):
    def corrupt(self, x, draws=None):
        return x[..., 1:]


class Doubles(Noise):
    def corrupt(self, x, draws=None):
        return x.double()


class InPlace(Noise):
    def corrupt(self, x, draws=None):
        return x.zero_()


class OwnDraws(Noise):
    def corrupt(self, x, draws=None):
        return torch.rand_like(x)


class NoCorrupt(Noise):
    def forward(self, x):
        return x / 2


class NoDraws(Noise):
    def corrupt(self, x):
        return x / 2


class Always(Noise):
    def corrupt(self, x, draws=None):
        return x / 2

    def forward(self, x):
        return self.corrupt(x)


class Lists(Noise):
    def corrupt(self, x, draws=None):
        return x.tolist()


class Infinite(Noise):
    def corrupt(self, x, draws=None):
        return x / 0


class Raises(Noise):
    def corrupt(self, x, draws=None):
        return x.no_such_method()


class Tuples(Sparsity):
    def forward(self, a):
        return a, a.new_zeros(())


class HalfCode(Sparsity):
    def forward(self, a):
        return SparseCode(a[:, ::2], a.new_zeros(()))


class Steps(Sparsity):
    def forward(self, a):
        return SparseCode((a > 0).float(), a.new_zeros(()))


class PerExample(Sparsity):
    def forward(self, a):
        return SparseCode(a, a.square().sum(dim=1))


class Unvalidated(Sparsity):
    def forward(self, a):
        return SparseCode(a, a.square().mean())


class FloatActive(L1):
    def active(self, code):
        return code


class Wide(MLP):
    def build(self, code_dim: int, outputs: int) -> EncoderDecoder:
        return super().build(code_dim, outputs + 1)


class Flat(MLP):
    def build(self, code_dim: int, outputs: int) -> EncoderDecoder:
        encoder, decoder = super().build(code_dim, outputs)
        return EncoderDecoder(encoder, nn.Sequential(decoder, nn.Flatten()))


class Unused(MLP):
    def build(self, code_dim: int, outputs: int) -> EncoderDecoder:
        encoder, decoder = super().build(code_dim, outputs)
        return EncoderDecoder(Spare(encoder), decoder)


class Spare(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.spare = inner, nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.inner(x)


class Detached(MLP):
    def build(self, code_dim: int, outputs: int) -> EncoderDecoder:
        encoder, decoder = super().build(code_dim, outputs)
        encoder.register_forward_hook(lambda module, inputs, output: output.detach())
        return EncoderDecoder(encoder, decoder)


class PerPixel(Likelihood):
    def forward(self, parameters: Tensor) -> torch.distributions.Distribution:
        return torch.distributions.Normal(parameters, 1.0)


class NoMean(Gaussian):
    def forward(self, parameters):
        return Blind(super().forward(parameters))


class Blind:
    def __init__(self, inner):
        self.log_prob = inner.log_prob


class NoGradient(Gaussian):
    def forward(self, parameters):
        return super().forward(parameters.detach())


class PerUnit(Standard):
    def log_prob(self, z):
        return -z.square()


class Learned(Standard):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


class OwnNormal(Standard):
    def sample(self, like, *samples, draws=None):
        return torch.randn(*samples, *like.shape)


class ByCount(Standard):
    def sample(self, like, draws=None):
        return torch.zeros(len(like), 1)


class Nothing(torch.optim.SGD):
    def step(self, closure=None):
        return None


class Still(Optimization):
    ALGORITHMS = Optimization.ALGORITHMS | {"nothing": Nothing}

    def __init__(self, **settings):
        super().__init__("nothing", 0.1)


class NoOptimizer(Optimization):
    def optimizer(self, parameters):
        return list(parameters)


class Mean(Autoencoder):
    def terms(self, x, seen=None, draws=None):
        return super().terms(x, seen)[0]


class PerExampleLoss(VAE):
    def terms(self, x, seen=None, draws=None):
        terms = super().terms(x, seen)
        return terms._replace(loss=terms.loss.expand(3))


class Frozen(Autoencoder):
    def decode(self, code):
        return super().decode(code.detach())


class LongCode(Autoencoder):
    def encode(self, x):
        return super().encode(x).repeat(1, 2)


BROKEN = [
    ("noise", Crops, "corrupt(x, draws) gave a tensor of shape (4, 1, 8, 7) and torch.float32;"),
    ("noise", Doubles, "gave a tensor of shape (4, 1, 8, 8) and torch.float64; must give a tensor"),
    ("noise", InPlace, "corrupt(x, draws) changed x itself, which is the target"),
    ("noise", OwnDraws, "corrupt(x, draws) drew random numbers of its own"),
    ("noise", NoCorrupt, "has no method corrupt(x, draws)"),
    ("noise", NoDraws, "TypeError: NoDraws.corrupt() takes 2 positional arguments"),
    ("noise", Always, "forward(x) changed x outside training"),
    ("noise", Lists, "corrupt(x, draws) gave a list; must give a tensor of shape (4, 1, 8, 8)"),
    ("noise", Infinite, "corrupt(x, draws) gave numbers that are not finite"),
    ("noise", Raises, "AttributeError: 'Tensor' object has no attribute 'no_such_method'"),
    ("sparsity", Tuples, "forward(a) gave a tuple; must give a SparseCode"),
    ("sparsity", HalfCode, "forward(a).code gave a tensor of shape (4, 15)"),
    ("sparsity", Steps, "no gradient of forward(a) reaches a"),
    ("sparsity", PerExample, "forward(a).penalty gave a tensor of shape (4,)"),
    ("sparsity", Unvalidated, "and penalty(mean) of the code's means 0; must be the same"),
    ("sparsity", FloatActive, "active(code) gave a tensor of shape (4, 30) and torch.float32"),
    ("network", Wide, "the encoder gave a tensor of shape (4, 31)"),
    ("network", Flat, "the decoder gave a tensor of shape (4, 64)"),
    ("network", Unused, "no gradient of its outputs reaches encoder.spare"),
    ("network", Detached, "reaches encoder.1.weight, encoder.1.bias, encoder.3.weight"),
    ("likelihood", PerPixel, "log_prob(x) of parameters (4, 1, 8, 8) gave a tensor of shape (4, 1"),
    ("likelihood", NoMean, "AttributeError: 'Blind' object has no attribute 'mean'"),
    ("likelihood", NoGradient, "no gradient of log_prob(x) reaches the decoder's output"),
    ("prior", PerUnit, "log_prob(z) gave a tensor of shape (2, 4, 20)"),
    ("prior", Learned, "no gradient of log_prob(z) reaches scale"),
    ("prior", OwnNormal, "sample(like) drew random numbers of its own; must take those of draws"),
    ("prior", ByCount, "TypeError: ByCount.sample() got multiple values for argument 'draws'"),
    ("optimizer", Still, "a step of it changes no parameter"),
    ("optimizer", NoOptimizer, "optimizer(parameters) gave a list; must give a torch.optim"),
    ("model", Mean, "terms(x) gave a Tensor; must give Terms"),
    ("model", PerExampleLoss, "terms(x).loss gave a tensor of shape (3,)"),
    ("model", Frozen, "no gradient of terms(x).loss reaches encoder.1.weight"),
    ("model", LongCode, "encode(x) gave a tensor of shape (4, 60)"),
]
SETTINGS = {"FloatActive": {"weight": 1.0}, "NoMean": {"sigma": 1.0}, "NoGradient": {"sigma": 1.0}}


def made(group: str, kind: type) -> Autoencoder:
    """Return an autoencoder with a part of this class."""
    config, _ = configure("model=vae" if kind is PerExampleLoss else "model=ae")
    names = ("network", "noise", "sparsity", "likelihood", "optimizer")
    if group == "model":
        parts = {name: build(config, name) for name in names}
        return kind(code_dim=30, **parts)
    parts = {name: build(config, name) for name in names if name != group}
    if group == "prior":
        return VAE(code_dim=20, prior=kind(), **parts)
    if group == "network":
        own = kind([1, 8, 8], [16], "relu")
    elif kind is NoOptimizer:
        own = kind("adam", 0.1)
    else:
        own = kind(**SETTINGS.get(kind.__name__, {}))
    return Autoencoder(code_dim=30, **parts, **{group: own})


@pytest.mark.parametrize(
    ("group", "kind", "message"), BROKEN, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_part_that_breaks_its_contract_is_told_by_name(group, kind, message, data, ours):
    ours(group)
    config, choices = configure("model=ae")
    model = made(group, kind)
    with pytest.raises(SettingError) as refused:
        check_parts(config, choices, model, data)
    assert str(refused.value).startswith(f"{group}=mine (mine.Mine): ")
    assert message in str(refused.value)
    assert is_one_plain_line(refused.value)


def test_trying_changes_nothing_of_the_run(data: DataModule, ours):
    for group in ("noise", "sparsity", "network", "model"):
        ours(group)
        words = ("model=ae", "noise=masking", "sparsity=kl", "sparsity.momentum=0.9")
        config, choices = configure(*words, "network.batch_norm=true")
        model = build(config, "model")
        before = {name: value.clone() for name, value in model.state_dict().items()}
        state = torch.get_rng_state()
        check_parts(config, choices, model, data)
        assert torch.equal(torch.get_rng_state(), state)
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name]), name
        assert all(parameter.grad is None for parameter in model.parameters())


def test_the_parts_of_aecli_are_not_tried(data, monkeypatch):
    monkeypatch.setattr(contract, "deepcopy", None)
    config, choices = configure("model=ae", "noise=masking")
    check_parts(config, choices, build(config, "model"), data)
    assert plugins.trusted() == []


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda model: 1 / 0, "division by zero"),
        (
            lambda model: model.double(),
            r"was \(.*float32\) and is \(.*float64",
        ),
    ],
)
def test_a_pretraining_that_breaks_is_told_by_name(broken, told, ours):
    ours("pretraining")
    config, choices = configure("model=ae")
    model = build(config, "model")
    with (
        pytest.raises(SettingError, match=rf"^pretraining=mine \(mine.Mine\): .*{told}"),
        contract.pretrained(config, choices, model),
    ):
        broken(model)
