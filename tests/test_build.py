import pytest
from omegaconf import OmegaConf

from aecli.build import build, is_part
from aecli.errors import SettingError
from aecli.noise import Masking
from tests.conftest import configure


def test_builds_the_whole_tree():
    config, _ = configure("model=dae", "noise.amount=0.2", "model.code_dim=7")
    model = build(config, "model")
    assert isinstance(model.noise, Masking)
    assert model.noise.amount == 0.2
    assert model.encoder[-1].out_features == 7


@pytest.mark.parametrize(
    "target", ["os.system", "aecli.build.OmegaConf.create", "builtins.eval", "torch.nn.Linear", 3]
)
def test_a_target_that_is_not_listed_is_not_called(target, tmp_path):
    evil = {"_target_": target, "command": f"touch {tmp_path}/ran"}
    for config in ({"model": evil}, {"model": {"_target_": "aecli.models.VAE", "parts": [evil]}}):
        with pytest.raises(SettingError, match=rf"_target_={target}: not a part of aecli"):
            build(OmegaConf.create(config), "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["model", "dataset", "pretraining"])
def test_a_part_of_another_kind_is_refused(key):
    config = OmegaConf.create({key: {"_target_": "aecli.priors.Standard"}})
    with pytest.raises(
        SettingError, match=rf"^{key}\._target_=aecli.priors.Standard: is no {key}$"
    ):
        build(config, key)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("aecli.models.VAE", True),
        ("aecli.models.vae.VAE", True),
        ("aecli.data.sources.Digits", True),
        ("aecli.models.vae.Autoencoder", False),  # imported there, not defined
        ("aecli.models.vae.torch", False),
        ("aecli.models.vae.log_normal", False),
        ("aecli.models.nothing.VAE", False),
        ("aecli.noise.nothing.Noise", False),
        ("aecli.models.../etc/passwd.VAE", False),
        ("aecli.models.a\0b.VAE", False),
        ("aecli.models.", False),
        ("aecli.build.TRAINER", False),
        ("aecli.noise.check_number", False),
        ("VAE", False),
        ("", False),
        (None, False),
    ],
)
def test_a_part_is_a_public_class_where_it_is_defined(target, expected):
    assert is_part(target) is expected


def test_a_target_hidden_in_an_interpolation_is_not_called():
    config = OmegaConf.create({"name": "os.system", "model": {"_target_": "${name}"}})
    with pytest.raises(SettingError, match=r"os\.system"):
        build(config, "model")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("noise.amount=1.5", "noise.amount=1.5: must be a number in"),
        ("+noise.colour=red", "^noise.colour=red: no such setting"),
        ("+model.depth=3", "^model.depth=3: no such setting"),
        ("model.code_dim=0", "model.code_dim=0"),
        ("optimizer.lr=-1", "optimizer.lr=-1"),
    ],
)
def test_a_mistake_in_a_part_comes_out_as_its_message(override, message):
    config, _ = configure("model=ae", "noise=masking", override)
    with pytest.raises(SettingError, match=message):
        build(config, "model")


@pytest.mark.parametrize(
    "override", ["trainer.accelerator=abacus", "trainer.precision=7", "+trainer.x=1"]
)
def test_a_mistake_in_the_trainer_names_it(override):
    config, _ = configure(override)
    with pytest.raises(SettingError, match=r"^trainer[.:]"):
        build(config, "trainer", logger=False, enable_checkpointing=False)
