"""How well scores tell anomalies from what is normal, where labels say which is which."""

from collections.abc import Sequence

import numpy as np

from aecli.errors import SettingError, shortened

NORMAL = ("normal", "inlier", "good", "ok", "benign", "healthy", "negative", "no", "false", "0")
"""Names of a class that is normal, if it is one of two; in small letters."""


def normal_class(names: Sequence[str], asked: str | None) -> str | None:
    """Return the name of the class that is normal: `asked`, or one of two by its name, or None.

    Raises `SettingError` if `asked` is none of the names, or the only one.
    """
    if asked is not None:
        if asked not in names or len(names) < 2:
            raise SettingError(
                f"normal={asked}: must be one of the classes of the examples, of at least two:"
                f" {shortened(', '.join(names))}"
            )
        return asked
    known = [name for name in names if name.lower() in NORMAL]
    return known[0] if len(names) == 2 and len(known) == 1 else None


class Detection:
    """Collects scores and, of each, whether its example is an anomaly by its label."""

    def __init__(self, normal: str) -> None:
        self.normal = normal
        self._scores: list[np.ndarray] = []
        self._anomalous: list[np.ndarray] = []

    def add(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Add scores `(B,)` and the classes of their examples, names or numbers `(B,)`."""
        self._scores.append(scores)
        self._anomalous.append(labels.astype(str) != self.normal)

    @property
    def scores(self) -> np.ndarray:
        """All scores, `(N,)`."""
        return np.concatenate(self._scores)

    @property
    def anomalous(self) -> np.ndarray:
        """Whether each example is an anomaly, `(N,)`."""
        return np.concatenate(self._anomalous)

    def auroc(self) -> float:
        """Return the area under the ROC curve.

        That is the probability that an anomaly's score is above that of a normal example.
        """
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(self.anomalous, self.scores))

    def average_precision(self) -> float:
        """Return the mean precision over all thresholds, each by the recall that it adds."""
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(self.anomalous, self.scores))
