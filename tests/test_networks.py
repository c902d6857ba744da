import pytest
import torch
from torch import nn

from aecli.errors import SettingError
from aecli.networks import MLP, Conv

NETWORKS = [
    MLP((1, 8, 8), [32, 16], "relu"),
    MLP((1, 8, 8), [], "tanh"),
    MLP((1, 8, 8), [32, 16], "sigmoid", tied=True),
    MLP((3, 5, 7), [10], "gelu"),
    Conv((1, 8, 8), [4, 8], "relu"),
    Conv((1, 28, 28), [4, 8, 8], "elu"),
    Conv((3, 9, 6), [4, 5], "softplus"),
]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("outputs", [5, 10])
def test_shapes_and_a_gradient_for_every_parameter(network, outputs):
    encoder, decoder = network.build(5, outputs)
    x = torch.rand(2, *network.shape)
    a = encoder(x)
    y = decoder(a[:, :5])
    assert a.shape == (2, outputs)
    assert y.shape == x.shape
    (y.square().sum() + a.sum()).backward()
    for parameter in {*encoder.parameters(), *decoder.parameters()}:
        assert parameter.grad is not None


def test_tied_weights_are_one_parameter_and_biases_are_not():
    encoder, decoder = MLP((1, 8, 8), [32], "relu", tied=True).build(5, 5)
    down = [m for m in encoder if isinstance(m, nn.Linear)]
    assert decoder[0].weight is down[1].weight
    assert decoder[2].weight is down[0].weight
    assert {id(p) for p in decoder.parameters()} - {id(p) for p in encoder.parameters()} == {
        id(decoder[0].bias),
        id(decoder[2].bias),
    }
    code = torch.randn(3, 5)
    expected = (code @ down[1].weight + decoder[0].bias).relu() @ down[0].weight + decoder[2].bias
    assert torch.allclose(decoder(code).flatten(1), expected, atol=1e-6)


def test_of_two_outputs_per_unit_the_first_are_tied():
    encoder, decoder = MLP((1, 2, 2), [], "relu", tied=True).build(3, 6)
    code = torch.randn(4, 3)
    expected = code @ encoder[1].weight[:3] + decoder[0].bias
    assert torch.allclose(decoder(code).flatten(1), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP((1, 8, 8), [0], "relu"), r"network.hidden=\[0\]: .* each value"),
        (lambda: MLP((1, 8, 8), 400, "relu"), "network.hidden=400: must be a list"),
        (lambda: MLP((1, 8, 8), [4], "swish"), "network.activation=swish: must be one of relu"),
        (lambda: MLP((1, 8, 8), [4], "relu", tied="yes"), "network.tied=yes"),
        (lambda: Conv((1, 8, 8), [], "relu"), "network.channels"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_batch_norm_stands_before_each_hidden_activation():
    encoder, decoder = MLP((1, 8, 8), [32, 16], "relu", batch_norm=True).build(4, 4)
    kinds = [type(module).__name__ for module in encoder]
    hidden = ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds == ["Flatten", *hidden, *hidden, "Linear"]
    assert [type(module).__name__ for module in decoder] == [
        *hidden,
        *hidden,
        "Linear",
        "Unflatten",
    ]
    assert [m.num_features for m in [*encoder, *decoder] if hasattr(m, "num_features")] == [
        32, 16, 16, 32,
    ]  # fmt: skip
    assert decoder(encoder(torch.rand(5, 1, 8, 8))).shape == (5, 1, 8, 8)


def test_sigmoid_layers_start_at_four_times_glorots_range():
    encoder, _ = MLP((1, 8, 8), [36], "sigmoid").build(4, 4)
    bound = 4 * (6 / (64 + 36)) ** 0.5
    weight = encoder[1].weight
    assert 0.98 * bound < weight.abs().max() <= bound
    assert not encoder[1].bias.any()
