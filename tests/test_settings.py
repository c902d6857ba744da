"""Every setting of every option, with values of every kind: a run that it changes, or one line."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from omegaconf import OmegaConf

from aecli.overrides import WIRED, groups, options
from aecli.training.arguments import CHECKS
from tests.conftest import configure
from tests.typed import aecli

FEW = ("abc", "-1", "null", "1e300")
MANY = (
    "0",
    "0.5",
    "true",
    "nan",
    "inf",
    "-inf",
    "''",
    "[]",
    "[1,2]",
    "[abc]",
    "{a:1}",
    "2147483647",
)
MANY += ("99999999999999999999", "ünï", "${no}")
TINY = ("trainer=debug", "pictures_every=0", "network.hidden=[8]", "dataset.train_size=64")
"""What makes a training take a tenth of a second."""


class Setting(NamedTuple):
    """A setting, and what to type so that a configuration has it."""

    option: str
    """Such as noise=masking; "" for a root key."""
    key: str
    """Such as noise.amount."""
    value: Any
    """As composed."""

    @property
    def around(self) -> list[str]:
        """The other words of a line that types it."""
        words = [word for word in TINY if not word.startswith(f"{self.key}=")]
        group = self.option.partition("=")[0]
        if group == "trainer":
            words[0] = "trainer.max_epochs=1"
        if self.option == "network=conv":
            words = ["network.channels=[4]" if w.startswith("network") else w for w in words]
            words = [word for word in words if not word.startswith(f"{self.key}=")]
        if group == "pretraining" and self.option != "pretraining=none":
            words += ["model=ae", "network.activation=sigmoid", "likelihood=cross_entropy"]
            words += ["pretraining.epochs=1"] if self.key != "pretraining.epochs" else []
            words += ["sparsity=sigmoid"] if self.option == "pretraining=sparse" else []
        return [self.option, *words] if self.option else words


def leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        key = f"{path}.{name}" if path else name
        if not name.startswith("_") and key not in WIRED:
            if isinstance(value, dict):
                yield from leaves(value, key)
            else:
                yield key, value


def settings() -> Iterator[Setting]:
    """Return each setting once, though several options may have it from the same base."""
    seen = set()
    root, _ = configure()
    for group in groups():
        if group in ("eval", "experiment", "launcher", "sweeper"):
            continue
        for name in options(group):
            node = OmegaConf.to_container(configure(f"{group}={name}")[0], resolve=False)[group]
            for key, value in leaves(node, group):
                kind = (node["_target_"], key)
                if kind not in seen:
                    seen.add(kind)
                    yield Setting(f"{group}={name}", key, value)
    for name in sorted(set(CHECKS) - set(node for node in root.trainer)):
        yield Setting("trainer=auto", f"+trainer.{name}", None)
    for key in ("seed", "objective", "resume", "early_stopping.patience"):
        yield Setting("", key, OmegaConf.select(root, key))
    yield Setting("", "early_stopping.min_delta", 0.0)
    yield Setting("", "pictures_every", 5)


SETTINGS = list(settings())


def one_line(answer: Any, key: str) -> bool:
    name = key.lstrip("+")
    return (
        answer.err.startswith("aecli: ")
        and answer.err.count("\n") == 1
        and name in answer.err
        and answer.code in (1, 2)
    )


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s.option or 'root'}-{s.key}")
@pytest.mark.parametrize(
    "values", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_whatever_is_typed_there_is_a_run_or_one_line(setting, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in values:
        answer = aecli("train", *setting.around, f"{setting.key}={value}")
        line = f"{' '.join(setting.around)} {setting.key}={value}"
        assert answer.err == "" if answer.code == 0 else one_line(answer, setting.key), (
            line,
            answer,
        )
