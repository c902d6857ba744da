"""The Python face of a run: examples in the user's units in, the same kind of thing out."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aecli.commands import sample as sampling
from aecli.commands.passes import Pass, is_known
from aecli.commands.score import check_finite, score_of
from aecli.data import Batch, DataModule
from aecli.data.module import NEW
from aecli.errors import SettingError, check_int
from aecli.evaluation import scores
from aecli.evaluation.scores import Score
from aecli.evaluation.support import check_examples
from aecli.runs.find import Run, find
from aecli.runs.load import Loaded, load
from aecli.runs.paths import OUTPUTS, shown
from aecli.text import one_line

AT_ONCE = 1000
"""Examples that go through the model together; no result depends on it."""


class Model(Loaded):
    """A trained model with its data and its configuration.

    `encode`, `reconstruct` and `score` take N examples in the units of the run's data, as the data
    card (`card`) reads them: a NumPy array, a torch tensor, a pandas DataFrame, or the path of such
    data as the run was trained on, a file or a folder. They give the same kind back; of a path,
    arrays or, for rows of a table, a DataFrame. `decode` takes codes. Work in the model's own units
    is done by `model`, a torch module.

    Raises `SettingError` for examples that do not go with the data card.
    """

    def __repr__(self) -> str:
        names = ", ".join(f"{group}={self.choices[group]}" for group in ("model", "dataset"))
        return f"Model({names}, run={shown(self.run.directory)})"

    @property
    def directory(self) -> Path:
        """The run's folder, with its checkpoints, metrics and logs."""
        return self.run.directory

    @torch.no_grad()
    def encode(self, x: Any) -> Any:
        """Return the codes `(N, K)`; of a DataFrame, one with the columns z0, z1, …."""
        codes = self._each(self._data(x), lambda batch: self.model.encode(batch.original))
        return _like(x, torch.cat(codes), [f"z{unit}" for unit in range(self.model.code_dim)])

    @torch.no_grad()
    def decode(self, z: Any) -> Any:
        """Return the mean of p(x|z) for codes `(N, K)`, in the units of the run's data."""
        codes = torch.as_tensor(_array(z)).float()
        width = self.model.code_dim
        if codes.ndim != 2 or codes.shape[1] != width or not len(codes):
            raise SettingError(f"z: is of shape {tuple(codes.shape)}; must be (N, {width})")
        _check_numbers("z", codes.numpy(force=True))
        parts = codes.to(self.model.device).split(AT_ONCE)
        return self._restored(z, [self.model.decode(part).mean for part in parts])

    @torch.no_grad()
    def reconstruct(self, x: Any) -> Any:
        """Return the reconstruction of each example, in the units of the run's data."""
        made = self._each(self._data(x), lambda batch: self.model.reconstruct(batch.original))
        return self._restored(x, made)

    @torch.no_grad()
    def score(self, x: Any, kind: str | None = None) -> Any:
        """Return how unusual each example is, `(N,)`, higher for what is less like the training.

        `kind` is one of `aecli score`: mse, nll, elbo, marginal_nll, knn or mahalanobis; None for
        the model's usual one. Of a DataFrame, a Series named "score".
        """
        kind = scores.kind_for(kind, self.model, self.choices["model"])
        data = self._data(x)
        scores.check_targets(kind, data, "type aecli score with dataset.targets=…")
        return _like(x, self.scored(data, kind, score_of(self, kind, AT_ONCE)), "score")

    def scored(self, data: DataModule, kind: str, score: Score) -> Tensor:
        """Return the scores of a kind of new examples, `(N,)`; refuse one that has none."""
        found = []
        for batch, columns in Pass(data, [NEW], AT_ONCE):
            check_examples(kind, self.model, data, batch, columns["id"], NEW)
            values = score(batch)
            check_finite(values.numpy(force=True), np.asarray(columns["id"]), kind)
            found.append(values)
        return torch.cat(found)

    @torch.no_grad()
    def sample(self, n: int, density: str | None = None) -> Any:
        """Return n new examples in the units of the run's data: an array, or a table's DataFrame.

        They are decoded from draws of the prior or, with `density="gaussian"` or "gmm", of a
        density fitted to the training codes; `torch.manual_seed` seeds both.
        """
        return self.card.restored(sampling.drawn(self, check_int("n", n, 1), density).images)

    def _data(self, x: Any) -> DataModule:
        """Return the examples as a split."""
        if isinstance(x, str | Path):
            places = [place for place in ("file", "files", "root") if place in self.config.dataset]
            if is_known(self.config.dataset):
                raise SettingError(
                    f"{x}: the run was trained on dataset={self.choices['dataset']}, which no other"
                    " file goes with; pass an array"
                )
            return self.new_data(**{places[0]: str(x)})
        if _is_frame(x) and self.card.features is not None:
            names = list(map(str, x.columns))
            if twice := [name for name, times in Counter(names).items() if times > 1]:
                raise SettingError(f"x: has two columns {one_line(twice[0])}")
            if not len(x):
                raise SettingError("x: has no rows")
            return self._given(x.set_axis(names, axis=1))
        if self.card.features is not None:
            raise SettingError(
                "x: the run was trained on a table; pass a DataFrame with its columns, or a file"
            )
        values = _array(x)
        if values.ndim == 0 or not len(values):
            raise SettingError("x: must have examples, one for each entry of its first dimension")
        _check_numbers("x", values)
        return self._given(values)

    def _given(self, values: Any) -> DataModule:
        try:
            return self.given_data(values)
        except SettingError as error:  # of the setting that the run's own file has
            raise SettingError(re.sub(r"^dataset\.\w+: ", "x: ", str(error))) from None

    def _each(self, data: DataModule, function: Callable[[Batch], Tensor]) -> list[Tensor]:
        return [function(batch) for batch in data.batches(NEW, AT_ONCE)]

    def _restored(self, x: Any, made: list[Tensor]) -> Any:
        """Return examples that the model has made in the user's units, in the manner of `x`."""
        parts = [self.card.restored(part) for part in made]
        if _is_frame(parts[0]):
            import pandas as pd

            table = pd.concat(parts, ignore_index=True)
            if isinstance(x, str | Path):
                return table
            if isinstance(x, Tensor) and any(kind.kind == "O" for kind in table.dtypes):
                raise SettingError(
                    "z: is a tensor, and the run's table has columns of text; pass an array"
                )
            return table.set_axis(x.index) if _is_frame(x) else _like(x, table.to_numpy(), "x")
        values = np.concatenate(parts)
        names = list(x.columns) if _is_frame(x) and len(x.columns) == values.shape[-1] else None
        return _like(x, values, names)


def open_run(run: str, device: str, output_dir: str = OUTPUTS, **places: Any) -> Model:
    """Return the model of the one run that `run` means; see `aecli.load`."""
    runs = find(run, output_dir)
    if len(runs) > 1:
        raise SettingError(f"run={run}: is a sweep of {len(runs)} runs; name one of them")
    return of_run(runs[0], device, **places)


def of_run(run: Run, device: str, **places: Any) -> Model:
    """Return the model of a run, whose data lies in `places` now: arguments of `aecli.runs.load`.

    Torch's random numbers go on as if it had not been made.
    """
    with torch.random.fork_rng(devices=[]):
        loaded = load(run, device, **places)
    return Model(**{field.name: getattr(loaded, field.name) for field in fields(loaded)})


def _is_frame(x: Any) -> bool:
    return hasattr(x, "columns") and hasattr(x, "iloc")  # pandas' own, without importing it


def _check_numbers(name: str, values: np.ndarray) -> None:
    """Refuse numbers that are not finite, or would not be in float32."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            wrong = np.count_nonzero(~np.isfinite(values.astype(np.float32)))
        if wrong:
            raise SettingError(
                f"{name}: has {wrong:,} numbers that are not finite, or too large for float32"
            )


def _array(x: Any) -> np.ndarray:
    """Return numbers of any kind as an array."""
    if isinstance(x, Tensor):
        # NumPy has no bfloat16.
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy(force=True)
    values = x.to_numpy() if _is_frame(x) else np.asarray(x)
    if values.dtype.kind not in "biuf":
        raise SettingError(f"x: holds {values.dtype}; must hold numbers")
    return np.require(values, requirements=["C", "W"])  # torch takes no others


def _like(x: Any, values: Tensor | np.ndarray, names: list[str] | str | None) -> Any:
    """Return values as what `x` is: a tensor where it lies, a DataFrame or Series, or an array."""
    if isinstance(x, Tensor):
        return torch.as_tensor(values).to(x.device)
    array = values.numpy(force=True) if isinstance(values, Tensor) else values
    if not _is_frame(x):
        return array
    import pandas as pd

    if isinstance(names, str):
        return pd.Series(array, x.index, name=names)
    return pd.DataFrame(array.reshape(len(array), -1), x.index, names)
