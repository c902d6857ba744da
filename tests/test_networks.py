import pytest
import torch
from torch import nn

from aecli.build import build
from aecli.errors import SettingError
from aecli.networks import MLP, Conv, ResNet, TiedLinear
from aecli.pretraining.greedy import pretrainable_layers
from tests.conftest import configure

NETWORKS = [
    MLP((1, 8, 8), [32, 16], "relu"),
    MLP((1, 8, 8), [], "tanh"),
    MLP((1, 8, 8), [32, 16], "sigmoid", tied=True),
    MLP((3, 5, 7), [10], "gelu"),
    MLP((13,), [10], "relu"),
    MLP((1, 8, 8), [32, 16], "gated"),
    Conv((1, 8, 8), [4, 8], "relu"),
    Conv((1, 28, 28), [4, 8, 8], "elu"),
    Conv((3, 9, 6), [4, 5], "softplus"),
    Conv((4, 2, 33), [4], "relu"),
    Conv((2, 17, 40), None, "relu"),
    ResNet((1, 8, 8), [4], 2, "relu"),
    ResNet((3, 33, 18), [4, 5, 6], 1, "gelu"),
    ResNet((4, 2, 3), None, 1, "elu"),
]


def shape_of(network):
    return network.shape if isinstance(network, MLP) else network.shapes[0]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("outputs", [5, 10])
def test_shapes_and_a_gradient_for_every_parameter(network, outputs):
    encoder, decoder = network.build(5, outputs)
    x = torch.rand(2, *shape_of(network))
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
        (lambda: MLP((1, 8, 8), [4], "gated", tied=True), "network.tied=true: a gated layer has"),
        (lambda: Conv((1, 8, 8), None, "gated"), "network.activation=gated: must be one of relu"),
        (lambda: ResNet((1, 8, 8), None, 1, "gated"), "network.activation=gated: must be one of"),
        (lambda: Conv((1, 8, 8), [], "relu"), "network.channels"),
        (lambda: Conv((13,), None, "relu"), r"network=conv: is for images.* rows of 13.*=mlp"),
        (lambda: ResNet((13,), None, 1, "relu"), "network=resnet: is for images.*network=mlp"),
        (
            lambda: Conv((3, 9, 40), [4] * 5, "relu"),
            r"network\.channels=\[4,4,4,4,4\]: .* 5 times, .* 9 × 40 pixels can be halved 4 times",
        ),
        (lambda: ResNet((3, 1, 40), None, 1, "relu"), "network=resnet: .* 1 × 40 pixels is too"),
        (
            lambda: ResNet((1, 8, 8), [8, 8, 1], 1, "relu"),
            r"network\.channels=\[8,8,1\]: 1 channel of 1 × 1 pixels is normalized",
        ),
        (lambda: ResNet((3, 8, 8), None, 0, "relu"), "network.blocks=0: must be a whole number"),
        (
            lambda: MLP((4,), [4], "relu", init="he"),
            "network.init=he: must be null, glorot, or the",
        ),
        (lambda: Conv((1, 8, 8), None, "relu", init=0), "network.init=0: must be null, glorot"),
        (
            lambda: ResNet((1, 8, 8), None, 1, "relu", output_bias="zero"),
            "network.output_bias=zero: must be null or data",
        ),
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


def test_a_gated_layer_is_a_linear_one_times_the_sigmoid_of_another():
    encoder, decoder = MLP((1, 8, 8), [32, 16], "gated").build(4, 8)
    x = torch.rand(5, 1, 8, 8)

    def by_hand(h, first, second, last):
        for layer, size in ((first, first.out_features // 2), (second, second.out_features // 2)):
            linear = h @ layer.weight[:size].T + layer.bias[:size]
            gate = h @ layer.weight[size:].T + layer.bias[size:]
            h = linear / (1 + (-gate).exp())
        return h @ last.weight.T + last.bias

    a = encoder(x)
    assert torch.allclose(a, by_hand(x.flatten(1), *encoder[1::2]), atol=1e-6)
    y = decoder(a[:, :4])
    assert torch.allclose(y.flatten(1), by_hand(a[:, :4], *decoder[:5:2]), atol=1e-6)
    sizes = [tuple(m.weight.shape) for m in [*encoder, *decoder] if isinstance(m, nn.Linear)]
    assert sizes == [(64, 64), (32, 32), (8, 16), (32, 4), (64, 16), (64, 32)]


def test_batch_norm_of_a_gated_layer_normalizes_both_of_its_halves():
    encoder, _ = MLP((1, 8, 8), [32], "gated", batch_norm=True).build(4, 4)
    assert [type(m).__name__ for m in encoder] == [
        "Flatten",
        "Linear",
        "BatchNorm1d",
        "GLU",
        "Linear",
    ]
    assert encoder[2].num_features == 64
    assert encoder(torch.rand(5, 1, 8, 8)).shape == (5, 4)


def test_gated_layers_are_not_pretrained():
    config, _ = configure("model=ae", "network.activation=gated")
    with pytest.raises(SettingError, match=r"pretraining: needs .*network\.activation=sigmoid"):
        pretrainable_layers(build(config, "model"))


def test_sigmoid_layers_start_at_four_times_glorots_range():
    encoder, _ = MLP((1, 8, 8), [36], "sigmoid").build(4, 4)
    bound = 4 * (6 / (64 + 36)) ** 0.5
    weight = encoder[1].weight
    assert 0.98 * bound < weight.abs().max() <= bound
    assert not encoder[1].bias.any()


@pytest.mark.parametrize(
    ("side", "channels"),
    [
        (2, [32]),
        (8, [32, 64]),
        (28, [32, 64]),
        (32, [32, 64]),
        (33, [32, 64, 128]),
        (64, [32, 64, 128]),
        (256, [32, 64, 128, 256, 256]),
    ],
)
def test_an_image_is_halved_until_its_shorter_side_has_8_pixels(side, channels):
    assert [shape[0] for shape in Conv((3, side, 300), None, "relu").shapes[1:]] == channels


def test_a_residual_block_is_the_identity_plus_what_its_convolutions_add():
    encoder, _ = ResNet((3, 8, 8), [6, 7], 2, "relu").build(5, 5)
    first, halving = encoder[1], encoder[3]
    x = torch.randn(2, 6, 4, 4)
    norm, _, conv, norm_2, _, conv_2 = first.residual
    assert torch.equal(first(x), x + conv_2(norm_2(conv(norm(x).relu())).relu()))
    assert torch.allclose(norm(x).flatten(1).mean(1), torch.zeros(2), atol=1e-5)  # one group
    assert halving.shortcut(x).shape == halving(x).shape == (2, 7, 2, 2)


def test_an_example_of_a_resnet_does_not_depend_on_its_batch():
    encoder, decoder = ResNet((3, 16, 16), None, 1, "relu").build(5, 5)
    x = torch.randn(4, 3, 16, 16)
    whole = decoder(encoder(x))
    assert torch.allclose(whole[2], decoder(encoder(x[2:3]))[0], atol=1e-5)


@pytest.mark.parametrize("network", [Conv, lambda *args: ResNet(*args[:2], 1, args[2])])
def test_images_may_lie_in_memory_with_their_channels_last(network):
    encoder, decoder = network((3, 19, 24), [16, 32], "relu").build(5, 5)
    x = torch.randn(4, 3, 19, 24)
    expected = decoder(encoder(x))
    encoder.to(memory_format=torch.channels_last)
    decoder.to(memory_format=torch.channels_last)
    other = decoder(encoder(x.contiguous(memory_format=torch.channels_last)))
    assert torch.allclose(other, expected, atol=1e-5)


def starts(init):
    """Return plans of all kinds with this start."""
    return [
        MLP((1, 40, 40), [100, 50], "relu", batch_norm=True, init=init),
        MLP((1, 40, 40), [100], "sigmoid", tied=True, init=init),
        Conv((3, 16, 16), [64, 64], "relu", init=init),
        ResNet((3, 16, 16), [64], 1, "relu", init=init),
    ]


def layers(built):
    return [
        m
        for part in built
        for m in part.modules()
        if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | TiedLinear)
    ]


@pytest.mark.parametrize("plan", starts("glorot"))
def test_glorot_is_a_uniform_of_the_layers_fans_and_zero_biases(plan):
    for layer in layers(plan.build(50, 50)):
        fan = nn.init._calculate_fan_in_and_fan_out(layer.weight)
        bound = (6 / sum(fan)) ** 0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert not layer.bias.any()


@pytest.mark.parametrize("plan", starts(0.02))
def test_a_number_is_the_deviation_of_a_normal(plan):
    for layer in layers(plan.build(50, 50)):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert layer.weight.abs().max() > 2.5 * 0.02
        assert not layer.bias.any()


def test_without_an_init_the_weights_are_torchs():
    torch.manual_seed(0)
    first = Conv((1, 8, 8), [4], "relu").build(2, 2).encoder[0].weight
    torch.manual_seed(0)
    assert torch.equal(first, nn.Conv2d(1, 4, 3, stride=2, padding=1).weight)


def test_the_two_matrices_of_a_gated_layer_start_as_two_layers():
    layer = MLP((1, 40, 40), [100], "gated", init="glorot").build(5, 5).encoder[1]
    bound = (6 / 1700) ** 0.5
    for weight in layer.weight.chunk(2):
        assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
