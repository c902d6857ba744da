import pytest
import torch

from aecli import randomness
from aecli.build import build
from aecli.data import Records
from aecli.randomness import BLOCK, TORCH, FixedDraws, SharedDraws, derived_seed, uniform_of
from tests.conftest import configure

SIZES = [1, 3, BLOCK - 1, BLOCK, BLOCK + 1, 200]


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("samples", [(), (3,)])
def test_an_examples_draws_do_not_depend_on_the_batches(kind, size, samples):
    x = torch.empty(200, 5)

    def drawn(size):
        parts = []
        for start in range(0, 200, size):
            draws = FixedDraws(7, 0).after(start).of("here")
            part = x[start : start + size]
            parts.append([getattr(draws, kind)(part, *samples) for _ in range(2)])
        return [torch.cat(calls, dim=len(samples)) for calls in zip(*parts, strict=True)]

    whole, again = drawn(200)
    assert whole.shape == (*samples, 200, 5)
    assert whole.unique().numel() == whole.numel()
    assert not torch.equal(whole, again)
    for part, expected in zip(drawn(size), (whole, again), strict=True):
        assert torch.equal(part, expected)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("samples", [(), (3,)])
def test_shared_draws_are_the_same_for_every_example(kind, samples):
    x = torch.empty(200, 5)

    def drawn(x):
        draws = SharedDraws(7).of("here").after(11)
        return [getattr(draws, kind)(x, *samples) for _ in range(2)]

    whole, again = drawn(x)
    assert whole.shape == (*samples, 200, 5)
    assert not torch.equal(whole, again)  # the next sample of each example
    assert whole.unique().numel() == whole.numel() / 200
    for part, expected in zip(drawn(x[:1]), (whole, again), strict=True):
        assert torch.equal(part.expand_as(expected), expected)


def test_seeds_and_purposes_draw_differently_and_leave_torchs_state_alone():
    x = torch.empty(100, 4)
    before = torch.get_rng_state()
    draws = [FixedDraws(seed, 0).of(what).normal(x) for seed in (0, 1) for what in ("a", "b")]
    shared = [SharedDraws(seed).of(what).normal(x.T) for seed in (0, 1) for what in ("a", "b")]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.cat(draws).unique().numel() == 4 * x.numel()
    assert torch.cat(draws).std().item() == pytest.approx(1, abs=0.1)
    assert torch.cat(shared).unique().numel() == 4 * len(x)
    assert torch.cat(shared).std().item() == pytest.approx(1, abs=0.1)


def test_draws_of_a_training_are_torchs():
    x = torch.empty(6, 4)
    torch.manual_seed(3)
    drawn = TORCH.of("noise").normal(x, 2), TORCH.after(5).uniform(x)
    torch.manual_seed(3)
    assert torch.equal(drawn[0], torch.randn(2, 6, 4))
    assert torch.equal(drawn[1], torch.rand(6, 4))


def test_derived_seeds_do_not_meet_where_seeds_count_up():
    seeds = [
        derived_seed(seed, purpose, layer, epoch)
        for seed in range(10)
        for purpose in ("pretraining", "fine-tuning")
        for layer in range(5)
        for epoch in range(50)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(0, "pretraining", 1) == 4840989064623489497  # on any machine


def splitmix64(number):
    """Return what the generator makes of a state, after Steele, Lea & Flood 2014."""
    number = ((number ^ number >> 30) * 0xBF58476D1CE4E5B9) % 2**64
    number = ((number ^ number >> 27) * 0x94D049BB133111EB) % 2**64
    return number ^ number >> 31


def test_whole_numbers_are_mixed_as_in_splitmix64():
    numbers = torch.randint(-(2**63), 2**63 - 1, (100,))
    expected = [splitmix64(number % 2**64) for number in numbers.tolist()]
    assert [number % 2**64 for number in randomness._mixed(numbers).tolist()] == expected


def test_numbers_of_an_examples_own_are_uniform_and_others_for_others():
    x = torch.rand(500, 1, 12, 12)
    x[1] = x[0]
    x[1, 0, 3, 4] += 1e-6
    u = uniform_of(x, 0)
    assert u.min() >= 0
    assert u.max() < 1
    counts = torch.histc(u, 10, 0, 1)
    assert ((counts / counts.sum() - 0.1).abs() < 0.004).all()
    for rows in (u.flatten(1), u.flatten(1).T):
        apart = torch.corrcoef(rows) - torch.eye(len(rows))
        assert apart.abs().max() < 6 / rows.shape[1] ** 0.5
    assert torch.equal(uniform_of(x.flip(0), 0).flip(0), u)
    assert torch.equal(uniform_of(x[7:8], 0), u[7:8])
    assert not torch.equal(uniform_of(x, 1), u)


def test_new_examples_are_binarized_by_their_own_numbers():
    config, _ = configure("model=vae")
    data = build(config, "dataset")
    data.setup()
    x = data.splits["test"].examples.values[:40].numpy()
    made = {}
    for name, values in (("whole", x), ("turned", x[::-1].copy()), ("alone", x[5:6])):
        new = build(config, "dataset")
        new.of_run(data.card, None)
        new.setup_new(Records(values))
        made[name] = new.splits["new"].binary
    assert torch.equal(made["turned"].flip(0), made["whole"])
    assert torch.equal(made["alone"], made["whole"][5:6])
    assert made["whole"].float().mean().item() == pytest.approx(x.mean() / 16, abs=0.02)
