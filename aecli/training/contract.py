"""Whether the parts of a plugin do what their base classes say, tried before a training.

Each is called with a few examples, as a training and an evaluation will call it, on a copy of its
own: no weight and no random number of the run changes. The parts of aecli are not tried: tests do.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, cast

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from aecli import plugins
from aecli.data import DataModule
from aecli.errors import SettingError
from aecli.models import VAE, Autoencoder
from aecli.models.losses import Terms
from aecli.noise import Noise
from aecli.randomness import FixedDraws
from aecli.sparsity import SparseCode

EXAMPLES = 4
SAMPLES = 2
"""Outputs of each example that a likelihood is tried with."""


@dataclass(frozen=True)
class Part:
    """A part of a plugin, as messages name it."""

    name: str
    """Such as "noise=blur (my_noise.Blur)"."""
    plugin: str

    def refuse(self, what: str) -> NoReturn:
        """Raise what is wrong with the part as `SettingError`."""
        raise SettingError(f"{self.name}: {what}")

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Turn whatever the part raises into a `SettingError` that names its place."""
        try:
            yield
        except SettingError:
            raise
        except Exception as error:
            raise SettingError(f"{self.name}: {plugins.told(error, self.plugin)}") from error

    def check(
        self, what: str, value: Any, shape: Sequence[int], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return `value`, which `what` gave, if it is a tensor of this shape and type, finite."""
        wanted = f"a tensor of shape {tuple(shape)} and {dtype}"
        if not isinstance(value, Tensor):
            self.refuse(f"{what} gave a {type(value).__name__}; must give {wanted}")
        if value.shape != torch.Size(shape) or value.dtype != dtype:
            self.refuse(
                f"{what} gave a tensor of shape {tuple(value.shape)} and {value.dtype}; must give"
                f" {wanted}"
            )
        if not value.isfinite().all():
            self.refuse(f"{what} gave numbers that are not finite")
        return value

    def check_gradient(self, what: str, output: Tensor, inputs: Mapping[str, Tensor]) -> None:
        """Refuse an output from which no gradient reaches one of the inputs, named by its key."""
        grads: Iterable[Tensor | None] = [None] * len(inputs)
        if output.requires_grad:
            grads = torch.autograd.grad(output.sum(), list(inputs.values()), allow_unused=True)
        without = [name for name, grad in zip(inputs, grads, strict=True) if grad is None]
        if without:
            self.refuse(f"no gradient of {what} reaches {', '.join(without[:3])}")


def own_part(config: DictConfig, choices: Mapping[str, str], group: str) -> Part | None:
    """Return the part of a plugin that a configuration has in a group; None if it is aecli's."""
    node = config.get(group)
    target = node.get("_target_") if isinstance(node, DictConfig) else None
    if group == "dataset" and plugins.plugin_of(target) is None:
        target = (node.get("source") or {}).get("_target_") if node else None
    plugin = plugins.plugin_of(target)
    return (
        None if plugin is None else Part(f"{group}={choices.get(group, group)} ({target})", plugin)
    )


@contextmanager
def pretrained(
    config: DictConfig, choices: Mapping[str, str], model: Autoencoder
) -> Iterator[None]:
    """Name the plugin's part that pretrains the model in a block, whatever it raises there."""
    part = own_part(config, choices, "pretraining")
    if part is None:
        yield
        return
    before = {name: (each.shape, each.dtype) for name, each in model.state_dict().items()}
    with part.blamed():
        yield
        after = {name: (each.shape, each.dtype) for name, each in model.state_dict().items()}
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name):
                part.refuse(f"{name} was {before.get(name)} and is {after.get(name)} afterwards")


@torch.enable_grad()
def check_parts(
    config: DictConfig, choices: Mapping[str, str], model: Autoencoder, data: DataModule
) -> None:
    """Try the parts of plugins that a model is made of on examples of its data.

    Raises `SettingError` naming the part, the plugin, what came and what must come.
    """
    kinds: dict[str, Callable[[Part, Autoencoder, Tensor], None]] = {
        "noise": _check_noise,
        "sparsity": _check_sparsity,
        "network": _check_network,
        "likelihood": _check_likelihood,
        "prior": _check_prior,
        "optimizer": _check_optimizer,
        "model": _check_model,
    }
    own = {group: part for group in kinds if (part := own_part(config, choices, group))}
    if not own:
        return
    batch = next(iter(data.batches("validation", EXAMPLES)))
    x = torch.cat([batch.x] * EXAMPLES)[:EXAMPLES]
    target = batch.target
    if target is not None:
        target = torch.cat([target] * EXAMPLES)[:EXAMPLES]
    kinds["model"] = partial(_check_model, target=target)
    with torch.random.fork_rng(devices=[]):
        for group, part in own.items():
            with part.blamed():
                if group == "likelihood":  # it may refuse these data
                    model.likelihood.check(data.values())
                kinds[group](part, deepcopy(model).train(), x.clone())


def _check_noise(part: Part, model: Autoencoder, x: Tensor) -> None:
    noise, clean = model.noise, x.clone()
    if type(noise).corrupt is Noise.corrupt:
        part.refuse("has no method corrupt(x, draws)")
    part.check("corrupt(x, draws)", noise.corrupt(x), x.shape)
    if not torch.equal(x, clean):
        part.refuse("corrupt(x, draws) changed x itself, which is the target; must return a copy")
    seen = [noise.corrupt(x, FixedDraws(0, 0)) for _ in range(2)]
    if not torch.equal(*seen):
        part.refuse("corrupt(x, draws) drew random numbers of its own; must take those of draws")
    part.check("forward(x) in training", noise(x), x.shape)
    if not torch.equal(noise.eval()(x), x):
        part.refuse("forward(x) changed x outside training; must return x itself")


def _check_sparsity(part: Part, model: Autoencoder, x: Tensor) -> None:
    sparsity, units = model.sparsity, model.code_dim
    a = torch.randn(len(x), units, requires_grad=True)
    out = sparsity(a)
    if not isinstance(out, SparseCode):
        part.refuse(f"forward(a) gave a {type(out).__name__}; must give a SparseCode")
    code = part.check("forward(a).code", out.code, a.shape)
    part.check("forward(a).penalty", out.penalty, ())
    part.check_gradient("forward(a)", code.sum() + out.penalty, {"a": a})
    code, penalty = sparsity.eval()(a.detach())
    mean = code.mean(dim=0)
    expected = part.check("penalty(mean)", sparsity.penalty(mean), ())
    if not torch.allclose(penalty, expected, rtol=1e-3, atol=1e-5):
        part.refuse(
            f"forward(a).penalty is {float(penalty):.4g}, and penalty(mean) of the code's means"
            f" {float(expected):.4g}; must be the same outside training"
        )
    part.check("active(code)", sparsity.active(code), code.shape, torch.bool)
    is_dead = sparsity.is_dead(code.amin(dim=0), code.amax(dim=0))
    part.check("is_dead(lowest, highest)", is_dead, (units,), torch.bool)


def _check_network(part: Part, model: Autoencoder, x: Tensor) -> None:
    a = part.check("the encoder", model.encoder(x), (len(x), model.outputs))
    code = torch.randn(len(x), model.code_dim)
    output = part.check("the decoder", model.decoder(code), x.shape)
    parameters = nn.ModuleDict({"encoder": model.encoder, "decoder": model.decoder})
    named = {name: p for name, p in parameters.named_parameters() if p.requires_grad}
    part.check_gradient("its outputs", a.square().sum() + output.square().sum(), named)


def _check_likelihood(part: Part, model: Autoencoder, x: Tensor) -> None:
    for leading in ((len(x),), (SAMPLES, len(x))):
        parameters = torch.randn(*leading, *x.shape[1:], requires_grad=True)
        given = f"of parameters {tuple(parameters.shape)}"
        variables = model.likelihood(parameters)
        log_prob = part.check(f"log_prob(x) {given}", variables.log_prob(x), leading)
        part.check(f"mean {given}", variables.mean, parameters.shape)
        own = {name: p for name, p in model.likelihood.named_parameters() if p.requires_grad}
        part.check_gradient("log_prob(x)", log_prob, {"the decoder's output": parameters} | own)


def _check_prior(part: Part, model: Autoencoder, x: Tensor) -> None:
    prior, like = cast(VAE, model).prior, torch.randn(len(x), model.code_dim)
    z = torch.randn(SAMPLES, *like.shape, requires_grad=True)
    log_prob = part.check("log_prob(z)", prior.log_prob(z), z.shape[:-1])
    own = {name: p for name, p in prior.named_parameters() if p.requires_grad}
    part.check_gradient("log_prob(z)", log_prob, {"z": z} | own)
    drawn = [prior.sample(like, SAMPLES, draws=FixedDraws(0, 0)) for _ in range(2)]
    part.check("sample(like, 2, draws=draws)", drawn[0], z.shape)
    part.check("sample(like)", prior.sample(like), like.shape)
    if not torch.equal(*drawn):
        part.refuse("sample(like) drew random numbers of its own; must take those of draws")


def _check_optimizer(part: Part, model: Autoencoder, x: Tensor) -> None:
    parameter = nn.Parameter(torch.ones(2, 3))
    optimizer = model.optimization.optimizer([parameter])
    if not isinstance(optimizer, Optimizer):
        kind = type(optimizer).__name__
        part.refuse(f"optimizer(parameters) gave a {kind}; must give a torch.optim.Optimizer")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    part.check("a step of it", parameter.detach(), (2, 3))
    if torch.equal(parameter, torch.ones(2, 3)):
        part.refuse("a step of it changes no parameter")


def _check_model(part: Part, model: Autoencoder, x: Tensor, target: Tensor | None = None) -> None:
    terms = model.terms(x) if target is None else model.terms(target, x)
    wanted = x if target is None else target
    if not isinstance(terms, Terms):
        part.refuse(f"terms(x) gave a {type(terms).__name__}; must give Terms")
    loss = part.check("terms(x).loss", terms.loss, ())
    if model.automatic_optimization:
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        part.check_gradient("terms(x).loss", loss, named)
    for name in ("nll", "penalty"):
        part.check(f"terms(x).{name}", getattr(terms, name), ())
    code = terms.code.to_dense()  # a dictionary's is sparse
    part.check("terms(x).code", code, (len(code), model.code_dim))
    model.eval()
    code = part.check("encode(x)", model.encode(x), (len(x), model.code_dim))
    part.check("decode(code).mean", model.decode(code).mean, wanted.shape)
    if model.has_prior:
        part.check("sample_prior(3)", model.sample_prior(3), (3, model.code_dim))
