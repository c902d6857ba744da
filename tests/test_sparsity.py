import pytest
import torch

from aecli.errors import SettingError
from aecli.sparsity import KL, L1, Lifetime, Sigmoid, Sparsity, TopK, bernoulli_kl

KINDS = [
    Sparsity(),
    L1(0.1),
    Sigmoid(),
    KL(0.1, 3.0, units=7),
    KL(0.1, 3.0, units=7, momentum=0.9),
    TopK(3, units=7),
    Lifetime(0.05),
]


def test_none_is_the_linear_code():
    a = torch.randn(4, 5)
    code, penalty = Sparsity()(a)
    assert code is a
    assert penalty == 0


def test_l1_is_the_mean_over_images_of_the_sum_over_units():
    a = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]])
    code, penalty = L1(0.1)(a)
    assert torch.equal(code, a.clamp(min=0))
    assert penalty.item() == pytest.approx(0.1 * (4.0 + 0.5) / 2)


def test_bernoulli_kl_is_that_of_torch_distributions():
    means = torch.tensor([0.01, 0.05, 0.3, 0.9], dtype=torch.float64)
    bernoulli = torch.distributions.Bernoulli
    expected = torch.distributions.kl_divergence(
        bernoulli(torch.tensor(0.05, dtype=torch.float64)), bernoulli(means)
    )
    assert torch.allclose(bernoulli_kl(0.05, means), expected)
    assert torch.isfinite(bernoulli_kl(0.05, torch.tensor([0.0, 1.0]))).all()


def test_kl_penalty_has_the_value_and_gradient_of_the_formula():
    target, weight = 0.1, 3.0
    a = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    code, penalty = KL(target, weight, units=4)(a)
    penalty.backward()
    z = torch.sigmoid(a.detach())
    mean = z.mean(0)
    assert torch.equal(code.detach(), z)
    assert penalty.item() == pytest.approx(weight * bernoulli_kl(target, mean).sum().item())
    # Ng's notes: each unit's delta gets β (−ρ/ρ̂ + (1−ρ)/(1−ρ̂)) · f'(a), over the m images.
    slope = weight * (-target / mean + (1 - target) / (1 - mean)) / len(a)
    assert torch.allclose(a.grad, slope * z * (1 - z))


def test_kl_running_mean_moves_the_point_of_the_gradient_and_not_its_size():
    a = torch.randn(6, 4, requires_grad=True)
    sparsity = KL(0.1, 3.0, units=4, momentum=0.9)
    z = torch.sigmoid(a.detach())
    running = 0.9 * torch.full((4,), 0.1) + 0.1 * z.mean(0)
    _, penalty = sparsity(a)
    penalty.backward()
    assert torch.allclose(sparsity.running_mean, running)
    assert penalty.item() == pytest.approx(3.0 * bernoulli_kl(0.1, running).sum().item(), rel=1e-5)
    slope = 3.0 * (-0.1 / running + 0.9 / (1 - running)) / len(a)
    assert torch.allclose(a.grad, slope * z * (1 - z), atol=1e-6)
    before = sparsity.running_mean.clone()
    sparsity.eval()(a)
    assert torch.equal(sparsity.running_mean, before)


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_kl_and_l1_are_computed_in_float32_at_least(momentum):
    a = torch.linspace(-12, 12, 32).view(8, 4).bfloat16()
    for sparsity in (KL(0.1, 3.0, 4, momentum), L1(0.3)):
        wide = KL(0.1, 3.0, 4, momentum) if isinstance(sparsity, KL) else sparsity
        torch.testing.assert_close(sparsity(a).penalty, wide(a.float()).penalty)
    assert torch.isfinite(KL(0.1, 3.0, 4)(torch.full((8, 4), 9.0).bfloat16()).penalty)


@pytest.mark.parametrize("by", ["value", "magnitude"])
def test_topk_keeps_exactly_the_k_largest_and_only_they_get_a_gradient(by):
    a = torch.randn(32, 20, requires_grad=True)
    code, penalty = TopK(5, units=20, by=by)(a)
    (code * torch.randn_like(code)).sum().backward()
    rank = a.abs() if by == "magnitude" else a
    kept = rank >= rank.sort(dim=1, descending=True).values[:, 4:5]
    assert ((code != 0).sum(1) == 5).all()
    assert torch.equal(code, torch.where(kept, a, 0.0))
    assert (a.grad[~kept] == 0).all()
    assert (a.grad[kept] != 0).all()
    assert penalty == 0


def test_topk_keeps_k_even_among_equals_and_all_negative():
    assert ((TopK(3, units=8)(torch.full((2, 8), -1.0)).code != 0).sum(1) == 3).all()


def test_topk_anneals_k_and_widens_it_outside_training():
    sparsity = TopK(10, units=100, k_start=50, anneal=0.5, alpha=1.5)
    a = torch.randn(3, 100)

    def kept():
        return (sparsity(a).code != 0).sum(1).tolist()

    assert kept() == [50] * 3
    for fraction, k in [(0.0, 50), (0.25, 30), (0.5, 10), (1.0, 10)]:
        sparsity.train().anneal(fraction)
        assert kept() == [k] * 3
        sparsity.eval()
        assert kept() == [15] * 3
    assert (TopK(10, units=12, alpha=4.0).eval()(a[:, :12]).code != 0).all()


@pytest.mark.parametrize(("rate", "count"), [(0.05, 100), (0.3, 7), (0.29, 100), (1.0, 3)])
def test_lifetime_keeps_each_units_largest_over_the_batch_and_only_they_get_a_gradient(rate, count):
    a = torch.randn(count, 13) - 0.5
    a[:, 0] = -a[:, 0].abs()  # a unit that is off throughout
    a.requires_grad_()
    code, penalty = Lifetime(rate)(a)
    weight = torch.randn_like(code)
    (code * weight).sum().backward()
    expected, slope = torch.zeros(count, 13), torch.zeros(count, 13)
    for unit in range(13):
        values = sorted(range(count), key=lambda row: -a[row, unit].item())
        for row in values[: round(rate * count)]:
            if a[row, unit] > 0:
                expected[row, unit] = a[row, unit].detach()
                slope[row, unit] = weight[row, unit]
    assert torch.equal(code, expected)
    assert torch.equal(a.grad, slope)
    assert ((code != 0).sum(dim=0) <= round(rate * count)).all()
    assert (code[:, 0] == 0).all()
    assert penalty == 0


def test_lifetime_is_a_relu_outside_training():
    a = torch.randn(3, 5)
    assert torch.equal(Lifetime(0.05).eval()(a).code, a.clamp(min=0))


@pytest.mark.parametrize(("rate", "least"), [(0.05, 11), (0.07, 8), (0.3, 2), (0.5, 2), (1, 1)])
def test_lifetime_refuses_a_batch_of_which_nothing_would_stay(rate, least):
    sparsity = Lifetime(rate)
    assert sparsity.smallest_batch == (least, f"sparsity.rate={rate}")
    assert sparsity(torch.ones(least, 3)).code.any()
    if least > 1:
        told = f"sparsity.rate={rate}: keeps no activation in a batch of {least - 1}"
        with pytest.raises(SettingError, match=told):
            sparsity(torch.ones(least - 1, 3))


def test_active_units():
    code = torch.tensor([[0.0, 0.6, 0.4]])
    assert Sparsity().active(code).tolist() == [[False, True, True]]
    assert KL(0.1, 1.0, units=3).active(code).tolist() == [[False, True, False]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(0, units=10), r"sparsity.k=0: .* from 1 to 10 \(model.code_dim=10\)"),
        (lambda: TopK(11, units=10), "sparsity.k=11"),
        (lambda: TopK(2.5, units=10), "sparsity.k=2.5"),
        (lambda: TopK(3, units=10, by="size"), "sparsity.by=size: must be one of value, magnitude"),
        (lambda: TopK(3, units=10, k_start=2), "sparsity.k_start=2"),
        (lambda: TopK(3, units=10, anneal=0), "sparsity.anneal=0"),
        (lambda: TopK(3, units=10, alpha=0.5), "sparsity.alpha=0.5"),
        (lambda: KL(0.0, 1.0, units=3), "sparsity.target=0.0"),
        (lambda: KL(1.0, 1.0, units=3), "sparsity.target=1.0"),
        (lambda: KL(0.1, -1.0, units=3), "sparsity.weight=-1.0"),
        (lambda: KL(0.1, 1.0, units=3, momentum=1.0), "sparsity.momentum=1.0"),
        (lambda: L1(-1), "sparsity.weight=-1"),
        (lambda: Lifetime(0), "sparsity.rate=0"),
        (lambda: Lifetime(1.5), "sparsity.rate=1.5"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_sigmoid_squashes_without_a_penalty():
    a = torch.randn(5, 3)
    code, penalty = Sigmoid()(a)
    assert torch.equal(code, a.sigmoid())
    assert penalty == 0
    assert torch.equal(Sigmoid().active(code), a > 0)


def test_all_kinds_are_tried_here():
    def below(kind):
        return {kind}.union(*(below(subclass) for subclass in kind.__subclasses__()))

    own = {kind for kind in below(Sparsity) if kind.__module__.startswith("aecli.")}
    assert {type(kind) for kind in KINDS} == own


@pytest.mark.parametrize("sparsity", KINDS, ids=lambda kind: type(kind).__name__)
def test_outside_training_the_penalty_is_that_of_the_mean_activations(sparsity):
    code, penalty = sparsity.eval()(torch.randn(50, 7))
    assert torch.allclose(penalty, sparsity.penalty(code.mean(dim=0)))


@pytest.mark.parametrize("sparsity", KINDS, ids=lambda kind: type(kind).__name__)
def test_dead_units_can_be_taken_away_and_no_others(sparsity):
    a = 3 * torch.randn(500, 7)
    a[:, 0] = -30.0  # off for all images; with top-k never among the k
    a[:, 1] += 0.5
    code = sparsity.eval()(a).code
    dead = sparsity.is_dead(code.amin(dim=0), code.amax(dim=0))
    assert dead.tolist() == [True] + [False] * 6
    decoder = torch.randn(7, 20)
    for unit in range(7):
        without = code.clone()
        without[:, unit] = code[:, unit].mean()
        change = ((without - code) @ decoder).abs().max()
        assert (change < 1e-2) == dead[unit]


def test_a_sigmoid_unit_that_is_seldom_above_a_half_is_not_dead():
    code = Sigmoid()(torch.randn(500, 7) - 4).code  # means of about 0.03
    assert not Sigmoid().is_dead(code.amin(dim=0), code.amax(dim=0)).any()
