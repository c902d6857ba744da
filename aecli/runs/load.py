"""A run's model and data, back from its checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from omegaconf import DictConfig

from aecli.build import build
from aecli.data import Card, DataModule, Records
from aecli.data.arrays import names_in
from aecli.errors import SettingError
from aecli.models import Autoencoder
from aecli.patterns import expanded
from aecli.runs.checkpoint import Kept, Stored, only_setting_errors, opened
from aecli.runs.find import Run
from aecli.text import one_line

DIGITS = "aecli.data.Digits"
"""The source that has no files."""


@dataclass(frozen=True)
class Loaded:
    """A run in memory; its data is read when it is first asked for."""

    run: Run
    config: DictConfig
    choices: dict[str, str]
    """The option chosen in each group, such as {"model": "vae"}."""
    model: Autoencoder
    """In evaluation mode, on the device asked for."""
    kept: Kept | None
    """What was found in its data; None in checkpoints before aecli 0.4.0."""
    step: int
    """Optimizer steps that the checkpoint has seen."""

    @cached_property
    def data(self) -> DataModule:
        """The run's data, set up, on the model's device."""
        data = self._made(self.config)
        data.setup()
        data.move(self.model.device)
        return data

    def new_data(self, **settings: Any) -> DataModule:
        """Return the split "new" of examples that the run was not trained on.

        `settings` are those of the data set that differ from the run's, such as its file. Raises
        `SettingError` for examples that do not go with the run's data card.
        """
        config = self.config.copy()
        config.dataset.update(self._of_its_own_files(settings) | settings)
        data = self._made(config)
        data.setup_new()
        data.move(self.model.device)
        return data

    def given_data(self, values: Any) -> DataModule:
        """Return the split "new" of examples in memory, in the units of the run's data."""
        data = self._made(self.without_targets().config)
        data.of_run(self.card, None)
        data.setup_new(Records(values))
        data.move(self.model.device)
        return data

    @property
    def card(self) -> Card:
        """How examples become the model's numbers, and come back in the user's units."""
        return self.data.card if self.kept is None else self.kept.card

    def _made(self, config: DictConfig) -> DataModule:
        data: DataModule = build(config, "dataset")
        if self.kept is not None:
            data.of_run(*self.kept)
        return data

    def without_targets(self) -> "Loaded":
        """Return the same run, whose targets are not read: for what looks at its input alone."""
        config = self.config.copy()
        config.dataset.update(self._no_targets)
        return replace(self, config=config)

    def _of_its_own_files(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return what new files do not take over from the run's, as it is then.

        Of a table that is its split. Of an array that are the files of its labels and ids, and the
        names of arrays that the new file does not have.
        """
        dataset = self.config.dataset
        if "files" not in dataset:
            found = self._no_targets
            if "split" in dataset:
                found["split"] = None
            if "ids" in dataset and settings.get("file"):
                there = names_in(expanded(settings["file"]))
                named = ("key", "labels", "ids")
                found |= {name: None for name in named if dataset[name] not in there}
            return found
        found = {"drop": None}
        for place, key in (("files", "key"), ("targets", "target_key")):
            files = settings.get(place)
            names = [files] if isinstance(files, str) else list(files or ())
            if all(str(name).endswith(".npy") for name in names):  # arrays without names, or none
                found[key] = None
        return found | ({} if settings.get("targets") else {"targets": None})

    @property
    def _no_targets(self) -> dict[str, Any]:
        return {"targets": None, "target_key": None} if "targets" in self.config.dataset else {}

    def labelled_data(
        self, classes: Sequence[int | str] | None, train_size: int | None
    ) -> DataModule:
        """Return the run's data, or the same data set with other classes or fewer images."""
        if classes is None and train_size is None:
            return self.data
        config = self.config.copy()
        config.dataset.classes = config.dataset.classes if classes is None else classes
        config.dataset.train_size = config.dataset.train_size if train_size is None else train_size
        try:
            data = self._made(config)
            data.setup()
        except SettingError as error:
            raise SettingError(f"eval.classes, eval.train_size: {error}") from error
        data.move(self.data.device)
        return data


def load(
    run: Run,
    device: str = "auto",
    root: str | None = None,
    file: str | None = None,
    files: Any = None,
    targets: Any = None,
) -> Loaded:
    """Return the run's model and data.

    `root`, `file` or `files`, and `targets`, is where the data lies now, if not where it did in
    training. A checkpoint may come from a stranger: nothing in it is run, and where data is fetched
    from is taken from this aecli.

    Raises `SettingError` if the checkpoint cannot be read or was not made by aecli.
    """
    target = _device(device)
    contents, found = opened(run.checkpoint)
    with only_setting_errors(run.checkpoint, contents):
        places = {"root": root, "file": file, "files": files, "targets": targets}
        return _restore(run, found, contents["state_dict"], target, places)


def _restore(
    run: Run,
    found: Stored,
    weights: dict[str, Any],
    device: torch.device,
    places: Mapping[str, Any],
) -> Loaded:
    config = found.config
    config.dataset.update(check_places(config, places))
    model = build(config, "model")
    model.load_state_dict(weights)
    model.sparsity.anneal(1.0)  # a schedule is at its end, for who trains the code on
    model = model.eval().requires_grad_(False).to(device)
    return Loaded(run, config, found.choices, model, found.data, found.step)


def check_places(config: DictConfig, places: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a data set that are given; raise `SettingError` for one it lacks."""
    given = {key: value for key, value in places.items() if value is not None}
    own = set(config.dataset)
    if (config.dataset.get("source") or {}).get("_target_") == DIGITS:
        own.discard("root")  # they come with scikit-learn
    for key, value in given.items():
        if key not in own:
            known = ", ".join(f"dataset.{known}" for known in places if known in own)
            raise SettingError(
                f"dataset.{key}={one_line(value)}: the run's data set has no such setting;"
                f" it has {known or 'none of them'}"
            )
    return given


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "gpu") or (name == "gpu" and not torch.cuda.is_available()):
        raise SettingError(f"device={name}: must be auto, cpu, or gpu where there is one")
    return torch.device("cuda" if name == "gpu" else "cpu")
