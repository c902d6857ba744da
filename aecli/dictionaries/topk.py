"""Top-k: the k largest pre-activations of each row."""

from aecli.dictionaries.products import Encoder
from aecli.dictionaries.selection import Collector, Largest, Selection
from aecli.errors import check_int


class TopK(Selection):
    """z = ReLU(a) on the k largest of each row and 0 elsewhere (Gao et al. 2024, arXiv 2406.04093).

    a is `(B, n)`. Not to be confused with `aecli.sparsity.TopK`, the linear code of 2013.

    Args:
        k: latents that stay, 1 … n.
        units: n, the latents.
    """

    def __init__(self, k: int, units: int) -> None:
        super().__init__()
        units = check_int("model.code_dim", units, 1)
        self.k = check_int("sparsity.k", k, 1, units, f"model.code_dim={units}")

    def extra_repr(self) -> str:
        """Return the settings, as they are printed."""
        return f"k={self.k}"

    def collector(self, encoder: Encoder) -> Collector:
        """Return what finds the k largest of each row."""
        return Largest(self.k, encoder)
