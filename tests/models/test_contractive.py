import pytest
import torch

from aecli.build import build
from aecli.errors import SettingError
from aecli.likelihoods import MSE
from aecli.models import Autoencoder, ContractiveAutoencoder
from aecli.networks import MLP, Conv
from aecli.noise import Masking, Noise
from aecli.optimizers import Optimization
from aecli.sparsity import KL, L1, Lifetime, Sigmoid, Sparsity, TopK
from tests.conftest import configure

DEEP = MLP((1, 8, 8), [16], "tanh")
ONE_LAYER = MLP((1, 8, 8), [], "relu", tied=True)


def make(network=ONE_LAYER, sparsity=None, noise=None, contraction=0.3, kind=None):
    torch.manual_seed(0)
    own = {} if kind else {"contraction": contraction}
    return (kind or ContractiveAutoencoder)(
        network=network,
        code_dim=5,
        noise=noise or Noise(),
        sparsity=sparsity or Sigmoid(),
        likelihood=MSE(),
        optimizer=Optimization("adam", 1e-3),
        **own,
    ).double()


@pytest.fixture
def x(images):
    return images.double()


def finite_differences(model, x, step=1e-5):
    """Return ‖J(x)‖²_F of each example, by central differences of the code."""
    total = torch.zeros(len(x), dtype=x.dtype)
    for pixel in range(x[0].numel()):
        change = torch.zeros_like(x)
        change.view(len(x), -1)[:, pixel] = step
        with torch.no_grad():
            total += (
                ((model.encode(x + change) - model.encode(x - change)) / (2 * step)).square().sum(1)
            )
    return total


@pytest.mark.parametrize("sparsity", [Sigmoid(), KL(0.1, 3.0, units=5)])
def test_the_closed_form_is_that_of_the_jacobian(sparsity, x):
    model = make(sparsity=sparsity)
    assert model.is_one_sigmoid_layer
    torch.testing.assert_close(model.sigmoid_norms(model.encode(x)), model.jacobian_norms(x))


@pytest.mark.parametrize(
    ("network", "sparsity"),
    [
        (ONE_LAYER, Sigmoid()),
        (ONE_LAYER, Sparsity()),
        (DEEP, Sigmoid()),
        (DEEP, Sparsity()),
        (DEEP, L1(0.1)),
        (DEEP, TopK(2, units=5)),
        (Conv((1, 8, 8), [4, 6], "tanh"), Sigmoid()),
    ],
)
def test_the_penalty_is_that_of_finite_differences(network, sparsity, x):
    model = make(network, sparsity).eval()
    torch.manual_seed(0)
    plain = make(network, sparsity, kind=Autoencoder).eval()
    terms, expected = model.terms(x), 0.3 * finite_differences(model, x).mean()
    assert (terms.loss - plain.terms(x).loss).item() == pytest.approx(expected.item(), rel=1e-4)
    assert model.reported(terms)["contraction"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("network", [ONE_LAYER, DEEP])
def test_its_gradient_is_that_of_finite_differences(network, x):
    model = make(network, contraction=1.0)
    norms = (
        model.sigmoid_norms(model.encode(x)) if network is ONE_LAYER else model.jacobian_norms(x)
    )
    weight = next(model.encoder.parameters())
    (slope,) = torch.autograd.grad(norms.sum(), weight)
    for place in ((0, 3), (2, 40)):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[place] += step
                ends.append(finite_differences(model, x).sum())
                weight[place] -= step
        difference = (ends[0] - ends[1]) / 2e-5
        assert slope[place].item() == pytest.approx(difference.item(), rel=1e-3)


@pytest.mark.parametrize("network", [ONE_LAYER, DEEP])
def test_with_a_noise_it_is_taken_at_the_clean_input(network, x):
    model = make(network, noise=Masking(0.5)).train()
    contraction = model.reported(model.terms(x))["contraction"]
    assert contraction.item() == pytest.approx(
        model.eval().reported(model.terms(x))["contraction"].item(), rel=1e-9
    )


def test_a_running_mean_moves_once_a_step(x):
    def running(kind):
        sparsity = KL(0.1, 3.0, units=5, momentum=0.9)
        make(DEEP, sparsity, kind=kind).train().terms(x)
        return sparsity.running_mean

    torch.testing.assert_close(running(None), running(Autoencoder))


def test_lifetime_winners_count_as_fixed(x):
    model = make(DEEP, Lifetime(0.25)).train()
    kept = model.encode(x) != 0
    expected = model.jacobian_norms(x).mean()
    rows = torch.func.vmap(torch.func.jacrev(lambda one: model.encoder(one[None])[0]))(x)
    rows = rows.flatten(2).square().sum(2) * kept
    assert expected.item() == pytest.approx(rows.sum(1).mean().item())


def test_batch_normalization_and_negative_weights_are_refused():
    with pytest.raises(SettingError, match="batch_norm=true: an example's code would"):
        make(MLP((1, 8, 8), [16], "relu", batch_norm=True))
    with pytest.raises(SettingError, match="contraction=-1: must be a number of at least 0"):
        make(contraction=-1)


@pytest.mark.parametrize("inference", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("hidden", ["[]", "[8]"])
def test_an_evaluation_computes_it_too(inference, hidden):
    config, _ = configure("model=contractive_ae", f"network.hidden={hidden}")
    model, data = build(config, "model").eval(), build(config, "dataset")
    data.setup()
    with inference():
        (batch,) = data.batches("validation", 200)
        value = model.reported(model.terms(batch.x))["contraction"]
    assert not value.requires_grad
    expected = 0.1 * finite_differences(model.double(), batch.x.double()).mean()
    assert value.item() == pytest.approx(expected.item(), rel=1e-3)
