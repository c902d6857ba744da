import pytest
import torch

from aecli.errors import SettingError
from aecli.noise import Gaussian, Masking, SaltAndPepper

KINDS = [Gaussian(0.3), SaltAndPepper(0.3), Masking(0.3)]


@pytest.mark.parametrize("noise", KINDS, ids=lambda noise: type(noise).__name__)
def test_noise_acts_in_training_only_anew_each_time_and_keeps_the_range(noise, images):
    first, second = noise.train()(images), noise.train()(images)
    assert not torch.equal(first, images)
    assert not torch.equal(first, second)
    assert first.min() >= 0
    assert first.max() <= 1
    assert noise.eval()(images) is images


@pytest.mark.parametrize("noise", KINDS, ids=lambda noise: type(noise).__name__)
def test_noise_follows_the_seed_and_leaves_its_input_alone(noise, images):
    before = images.clone()
    torch.manual_seed(5)
    first = noise.corrupt(images)
    torch.manual_seed(5)
    assert torch.equal(noise.corrupt(images), first)
    assert torch.equal(images, before)


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.25, 1.0])
def test_masking_zeroes_the_exact_fraction_of_each_image(amount):
    x = torch.ones(50, 1, 8, 8)
    zeros = (Masking(amount).corrupt(x) == 0).flatten(1).sum(1)
    assert (zeros == int(amount * 64 + 0.5)).all()


def test_half_a_feature_is_rounded_up_whatever_the_float():
    x = torch.ones(3, 50)
    assert ((Masking(0.29).corrupt(x) == 0).sum(1) == 15).all()  # 0.29 · 50 = 14.499999999999998


def test_a_fraction_of_few_features_may_be_none_of_them():
    assert Masking(0.1).rounds_to_nothing(4)
    assert not Masking(0.1).rounds_to_nothing(5)
    assert not Masking(0.0).rounds_to_nothing(4)  # as asked for
    assert not SaltAndPepper(0.1).rounds_to_nothing(1)
    columns = [["number", 1], ["category", 8]]  # nine numbers of two columns
    assert Masking(0.2, columns).rounds_to_nothing(9)
    assert not Masking(0.3, columns).rounds_to_nothing(9)


def test_masking_chooses_features_uniformly_and_per_image():
    masked = (Masking(0.25).corrupt(torch.ones(8000, 1, 4, 4)) == 0).float()
    assert torch.allclose(masked.mean(0), torch.tensor(0.25), atol=0.025)
    assert len(masked.flatten(1).unique(dim=0)) > 1000


def test_salt_and_pepper_has_the_stated_rates():
    x = torch.full((2000, 1, 8, 8), 0.5)
    noisy = SaltAndPepper(0.3, salt=0.25).corrupt(x)
    assert (noisy == 1).float().mean().item() == pytest.approx(0.075, abs=0.003)
    assert (noisy == 0).float().mean().item() == pytest.approx(0.225, abs=0.004)
    assert ((noisy == 0.5) | (noisy == 0) | (noisy == 1)).all()


def test_gaussian_has_the_stated_deviation_and_is_clamped():
    x = torch.full((2000, 1, 8, 8), 0.5)
    noisy = Gaussian(0.1).corrupt(x)
    assert (noisy - 0.5).std().item() == pytest.approx(0.1, rel=0.01)
    assert Gaussian(2.0).corrupt(x).max() == 1


@pytest.mark.parametrize(
    ("ends", "of_rows", "of_images"),
    [
        ((-3, 5), (-3, 5), (-3, 5)),
        ((4, 6), (4, 6), (0, 6)),
        ((-6, -4), (-6, -4), (-6, 1)),
        ((0.25, 0.75), (0.25, 0.75), (0, 1)),
    ],
)
def test_the_ends_are_those_of_the_data_and_of_images_at_least_0_and_1(ends, of_rows, of_images):
    rows = torch.linspace(*ends, 64).repeat(500, 1)
    for x, expected in ((rows, of_rows), (rows.view(-1, 1, 8, 8), of_images)):
        for noise in (SaltAndPepper(1.0), Gaussian(90.0)):
            noise.fit(x, x.shape[1:])
            assert noise.corrupt(x).aminmax() == expected


@pytest.mark.parametrize("noise", KINDS, ids=lambda noise: type(noise).__name__)
def test_rows_of_numbers_are_corrupted_as_pixels_are(noise):
    x = torch.rand(6, 49)
    torch.manual_seed(1)
    image = noise.corrupt(x.view(6, 1, 7, 7))
    torch.manual_seed(1)
    assert torch.equal(noise.corrupt(x), image.flatten(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Masking(1.5), r"noise.amount=1.5: must be a number in \[0, 1\]"),
        (lambda: Masking("much"), "noise.amount=much: must be a number"),
        (lambda: SaltAndPepper(-0.1), "noise.amount=-0.1"),
        (lambda: SaltAndPepper(0.1, salt=2), "noise.salt=2"),
        (lambda: Gaussian(-1), "noise.std=-1: must be a number of at least 0"),
        (lambda: Gaussian(True), "noise.std=true"),
        (lambda: Gaussian(float("nan")), "noise.std=nan"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()
