"""Pillow alone. No torch here: the processes that decode import this module."""

from collections.abc import Sequence

import numpy as np
from PIL import Image


def decoded(paths: Sequence[str]) -> int:
    """Decode pictures to arrays that are thrown away; return how many numbers they had."""
    return sum(np.asarray(Image.open(path)).size for path in paths)
