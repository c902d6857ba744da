"""The settings that a result depends on, and how those of a run differ from its experiment's."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from aecli.config import composed
from aecli.runs.experiment import FOUND, FREE
from aecli.runs.paths import CONFIG
from aecli.tree import leaves
from benchmarks.reproductions.rows import ADDED

WITHOUT_EFFECT = FREE | {
    "objective",
    "dataset.source.mirrors",
    "published.value",
    "published.goal",
    "published.source",
    "published.evidence",
}
"""What may change without making a result stale. `published.metric` is not among them."""


def of_experiment(name: str) -> tuple[dict[str, Any], DictConfig]:
    """Return an experiment's settings as its file and the defaults are now, and `published`."""
    config = composed("train", f"experiment={name}")
    return _settings(config), config.published


def of_run(run: Path) -> dict[str, Any]:
    """Return the settings that a run was started with."""
    return _settings(cast(DictConfig, OmegaConf.load(run / CONFIG)))


def _settings(config: DictConfig) -> dict[str, Any]:
    """Return the settings that a result depends on by their keys; left out is what is null.

    So is what is interpolated, since it is there where it is set, and how a protocol that is not
    asked for classifies. Of a class there is the name alone, so that it may move to another module.
    """
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    others = {"probe", "finetune"} - {plain["eval"]["protocol"]}
    found = {}
    for key, value in leaves(plain):
        is_copy = isinstance(value, str) and value.startswith("${")
        is_unused = key.startswith(tuple(f"eval.{protocol}." for protocol in others))
        if value is not None and key not in WITHOUT_EFFECT and not is_copy and not is_unused:
            found[key] = value.rpartition(".")[2] if key.endswith("_target_") else value
    return found


def differences(ran: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Return `key=value, now value` for each setting of a run that is another one now.

    What a run has found in its data, an experiment does not say.
    """
    for key in sorted(ran.keys() | now.keys()):
        before, after = (settings.get(key, ADDED.get(key)) for settings in (ran, now))
        if before != after and not (key in FOUND and after is None):
            yield f"{key}={_shown(before)}, now {_shown(after)}"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
