import pytest
import torch
from torch.distributions import Independent, Normal

from aecli.errors import SettingError
from aecli.evaluation.likelihood import importance_bound
from aecli.likelihoods import MSE, Bernoulli
from aecli.models import IWAE, VAE
from aecli.networks import MLP
from aecli.noise import Noise
from aecli.optimizers import Optimization
from aecli.sparsity import L1, Sparsity


def make(variant=IWAE, sparsity=None, likelihood=None, **settings):
    torch.manual_seed(0)
    return variant(
        network=MLP((1, 8, 8), [16], "tanh"),
        code_dim=5,
        noise=Noise(),
        sparsity=sparsity or Sparsity(),
        likelihood=likelihood or Bernoulli(),
        optimizer=Optimization("adam", 1e-3),
        **settings,
    )


@pytest.fixture
def x(images):
    return images.round()


def test_loss_is_the_log_mean_weight_of_torch_distributions(x):
    model = make(samples=4)
    torch.manual_seed(1)
    terms = model.terms(x)
    torch.manual_seed(1)
    posterior = model.posterior(x)
    z = posterior.sample(4)
    q = Independent(Normal(posterior.mean, (0.5 * posterior.log_variance).exp()), 1)
    prior = Independent(Normal(torch.zeros(5), torch.ones(5)), 1)
    log_p = torch.stack([model.decode(z_i).log_prob(x) for z_i in z])
    log_w = log_p + prior.log_prob(z) - q.log_prob(z)
    bound = (log_w.exp().mean(0).log()).mean()
    assert terms.loss.item() == pytest.approx(-bound.item(), rel=1e-4)
    assert terms.nll.item() == pytest.approx(-log_p.mean().item(), rel=1e-5)
    assert terms.code.shape == (4 * 16, 5)
    assert set(model.reported(terms)) == {"loss", "penalty", "nll", "kl", "elbo", "bound"}


def test_one_sample_is_the_vae_in_expectation(x):
    x = x[:1]
    with torch.no_grad():
        one = make(samples=1).terms(x.expand(20000, -1, -1, -1)).loss
        vae = make(VAE).terms(x.expand(20000, -1, -1, -1)).loss
    assert one.item() == pytest.approx(vae.item(), rel=2e-3)


def test_the_bound_tightens_with_more_samples(x):
    with torch.no_grad():
        x = x.repeat(200, 1, 1, 1)
        losses = [make(samples=k).terms(x).loss.item() for k in (1, 5, 50)]
    assert losses[0] > losses[1] > losses[2]


def test_it_is_what_eval_estimates(x):
    model = make(samples=5)
    torch.manual_seed(1)
    loss = model.terms(x).loss
    torch.manual_seed(1)
    assert -importance_bound(model, x, 5, at_once=1000).mean().item() == pytest.approx(loss.item())


def test_gradients_weigh_the_samples_by_their_share(x):
    """∇ log (1/k) Σ w_i = Σ w̃_i ∇ log w_i (Burda et al. 2015, eq. 13), for the decoder."""
    model = make(samples=3)
    torch.manual_seed(1)
    model.terms(x[:1]).loss.backward()
    bias = model.decoder[-2].bias
    got = bias.grad.clone()
    torch.manual_seed(1)
    posterior = model.posterior(x[:1])
    z = posterior.sample(3)
    log_w = torch.stack(
        [model.log_weight(posterior, z_i, model.decode(z_i).log_prob(x[:1])) for z_i in z]
    )
    shares = log_w.softmax(0).detach()
    (expected,) = torch.autograd.grad(-(shares * log_w).sum(), bias)
    assert torch.allclose(got, expected, atol=1e-6)


def test_a_penalty_joins_the_loss_but_not_the_bound(x):
    model = make(sparsity=L1(0.5), samples=3)
    terms = model.terms(x)
    reported = model.reported(terms)
    assert (reported["loss"] + reported["bound"]).item() == pytest.approx(
        terms.penalty.item(), rel=1e-3
    )


def test_without_a_density_there_is_no_bound_of_log_p(x):
    model = make(likelihood=MSE(), samples=3)
    reported = model.reported(model.terms(x))
    assert sorted(reported) == ["kl", "loss", "penalty"]


def test_beta_weighs_the_prior_and_the_posterior(x):
    model = make(samples=3, beta=0.3)
    torch.manual_seed(1)
    terms = model.terms(x)
    torch.manual_seed(1)
    posterior = model.posterior(x)
    z = posterior.sample(3)
    log_p = model.log_likelihood(x, z.flatten(0, 1))
    ratio = model.log_prior(z) - posterior.log_prob(z)
    expected = (log_p + 0.3 * ratio).exp().mean(0).log().mean()
    assert terms.loss.item() == pytest.approx(-expected.item(), rel=1e-4)
    bound = (log_p + ratio).exp().mean(0).log().mean()
    assert terms.bound.item() == pytest.approx(bound.item(), rel=1e-4)


def test_it_warms_up_in_training_alone(x):
    warm, evaluated = (make(samples=3, warmup_steps=10) for _ in range(2))
    warm._warmth = evaluated.eval()._warmth = 0.5
    losses = []
    for each in (warm, make(samples=3, beta=0.5), evaluated, make(samples=3)):
        torch.manual_seed(1)
        losses.append(each.terms(x).loss.item())
    assert losses[0] == losses[1] != losses[2]
    assert losses[2] == losses[3]


def of_encoder(model, x, count):
    """Return the gradients at the encoder's output of copies of an example, `(count, 2K)`."""
    outputs = []
    model.encoder.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    loss = model.terms(x.expand(count, -1, -1, -1)).loss
    return torch.autograd.grad(loss, outputs)[0] * count


def test_dreg_is_its_equation(x):
    """Σ_i w̃_i² ∂log w_i/∂z_i ∂z_i/∂φ (Tucker et al. 2018, eq. 8), and plain for the decoder."""
    model, x = make(sparsity=L1(0.5), samples=3, gradient="dreg"), x[:1]
    torch.manual_seed(1)
    model.terms(x).loss.backward()
    torch.manual_seed(1)
    posterior = model.posterior(x)
    z = posterior.sample(3)
    leaf = z.detach().requires_grad_()
    fixed = posterior.detached()
    code = model.sparsity(leaf.flatten(0, 1)).code
    log_w = model.log_weight(fixed, leaf, model.log_likelihood(x, code))
    (by_z,) = torch.autograd.grad(log_w.sum(), leaf, retain_graph=True)
    shares = log_w.detach().softmax(0)
    penalty = model.sparsity(z.flatten(0, 1)).penalty
    surrogate = penalty - (shares.square().unsqueeze(-1) * by_z * z).sum()
    for parameter in model.encoder.parameters():
        (expected,) = torch.autograd.grad(surrogate, parameter, retain_graph=True)
        assert torch.allclose(parameter.grad, expected, atol=1e-5)
    bias = model.decoder[-2].bias
    (expected,) = torch.autograd.grad(-(shares * log_w).sum(), bias)
    assert torch.allclose(bias.grad, expected, atol=1e-6)


@pytest.mark.parametrize("beta", [1.0, 0.3, 4.0])
def test_dreg_has_the_mean_of_the_plain_gradient_and_less_variance(x, beta):
    count, found = 40_000, {}
    for gradient in ("plain", "dreg"):
        torch.manual_seed(2)
        model = make(samples=4, gradient=gradient, beta=beta)
        found[gradient] = of_encoder(model, x[:1], count)
    plain, dreg = found["plain"], found["dreg"]
    error = ((plain.var(0) + dreg.var(0)) / count).sqrt()
    assert ((plain.mean(0) - dreg.mean(0)).abs() < 5 * error).all()
    if beta == 1:
        assert dreg.var(0).sum() < 0.8 * plain.var(0).sum()


def test_an_evaluation_is_the_same_whatever_the_gradient(x):
    losses = []
    for gradient in ("plain", "dreg"):
        torch.manual_seed(1)
        losses.append(make(gradient=gradient).eval().terms(x).loss.item())
    assert losses[0] == losses[1]


def test_a_vaes_gradient_is_refused():
    with pytest.raises(SettingError, match=r"model.gradient=stl: must be one of plain, dreg"):
        make(gradient="stl")
