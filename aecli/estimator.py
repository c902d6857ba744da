"""`aecli.Autoencoder`: a scikit-learn estimator around a training."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from aecli.api import AT_ONCE, Model, of_run
from aecli.commands.score import score_of
from aecli.data import Batch
from aecli.errors import LARGEST, SettingError
from aecli.evaluation.scores import kind_for
from aecli.in_process import train
from aecli.runs.find import find
from aecli.runs.paths import as_typed

LEAST = 5
"""Examples: for training, validation and test."""
SEEN = [np.float64, np.float32]
DRAWS = 10
"""Samples of the code that a score is the mean over, where it is one over samples."""


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """An autoencoder as a scikit-learn transformer and density estimator of rows `(N, D)`.

    Args:
        model: an option of the group `model`, such as "vae", "ae", "pca", "ksparse_ae".
        code_dim: K; None for the model's own.
        epochs: of the training.
        scale: what is done to the columns first: "standard", "minmax" or "none".
        random_state: seed of the weights and of the order of the rows, as everywhere in
            scikit-learn.
        overrides: further words of `aecli train`, such as `["network.hidden=[64]",
            "dataset.validation_size=0.2", "optimizer.lr=0.01"]`.
        verbose: print what `aecli train` prints.

    A tenth of the rows validates: the weights are those of the epoch with the least loss on it.
    Nothing is left on the disk. A pickle holds the checkpoint, which is read without unpickling.

    Attributes:
        checkpoint_: bytes of the checkpoint of the best epoch; written to a file, it is one for
            `aecli.load` and `run=`.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
    """

    _model: Model

    def __init__(
        self,
        model: str = "vae",
        code_dim: int | None = None,
        epochs: int = 100,
        scale: str = "standard",
        random_state: int | np.random.RandomState | None = None,
        overrides: Sequence[str] = (),
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.code_dim = code_dim
        self.epochs = epochs
        self.scale = scale
        self.random_state = random_state
        self.overrides = overrides
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 (scikit-learn's name)
        """Train on rows `(N, D)`; y is not looked at. Raises `ValueError` for a wrong setting."""
        values = validate_data(self, X, dtype=SEEN, ensure_min_samples=LEAST)
        with TemporaryDirectory(prefix="aecli-") as folder:
            file = Path(folder) / "x.npy"
            np.save(file, values)
            directory = train(self._words(file), shown=bool(self.verbose))
            (run,) = find(str(directory))
            self.checkpoint_ = run.checkpoint.read_bytes()
        self._model = _loaded(self.checkpoint_)
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the codes `(N, K)`, float32."""
        values = self._checked(X)
        return self._model.encode(values)

    def inverse_transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the rows `(N, D)` that codes `(N, K)` decode to."""
        check_is_fitted(self)
        return self._model.decode(X)

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return how usual each row is, `(N,)`, lower for what is less like the training rows.

        A lower bound of log p(x) in nats, on the scale of the model's input, for a model with a
        prior (minus `aecli score kind=elbo`); else minus the mean squared error. It depends on the
        row alone, not on its place: the samples of the code are drawn with the same numbers.
        """
        values = self._checked(X)
        model = self._model
        kind = kind_for(None, model.model, model.choices["model"])
        seeds = range(DRAWS if kind == "elbo" else 1)
        scores = [score_of(model, kind, AT_ONCE, seed=seed) for seed in seeds]

        def mean(batch: Batch) -> Tensor:
            return torch.stack([score(batch) for score in scores]).mean(dim=0)

        with torch.no_grad():
            return -model.scored(model.given_data(values), kind, mean).numpy(force=True)

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803
        """Return the mean of `score_samples`."""
        return float(self.score_samples(X).mean())

    @property
    def _n_features_out(self) -> int:
        return self._model.model.code_dim

    def _checked(self, X: Any) -> np.ndarray:  # noqa: N803
        check_is_fitted(self)
        return validate_data(
            self, X, dtype=SEEN, order="C", force_writeable=True, reset=False
        )  # as torch takes them

    def _words(self, file: Path) -> list[str]:
        seed = check_random_state(self.random_state).randint(LARGEST)
        if isinstance(self.overrides, str):
            raise SettingError(f"overrides={self.overrides}: must be a list of words")
        own = [f"model={self.model}", "dataset=array", "trainer=cpu"]
        own += [as_typed("dataset.file", file), as_typed("output_dir", file.parent)]
        own += [f"dataset.scale={self.scale}", f"trainer.max_epochs={self.epochs}"]
        own += [f"seed={seed}", "dataset.test_size=1", "pictures_every=0"]
        if self.code_dim is not None:
            own.append(f"model.code_dim={self.code_dim}")
        return [*own, *self.overrides]

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_model"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "checkpoint_" in state:
            self._model = _loaded(self.checkpoint_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _loaded(checkpoint: bytes) -> Model:
    """Return the model in the bytes of a checkpoint; nothing in them is unpickled."""
    with TemporaryDirectory(prefix="aecli-") as folder:
        file = Path(folder) / "estimator.ckpt"
        file.write_bytes(checkpoint)
        (run,) = find(str(file))
        return of_run(run, "cpu")
