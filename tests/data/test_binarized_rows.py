"""dataset.binarize is for values in [0, 1]: others get a plain line."""

import numpy as np
import pytest
import torch

from aecli.data import ArrayData
from aecli.errors import SettingError


@pytest.mark.parametrize("binarize", ["round", "fixed", "dynamic"])
def test_values_outside_the_unit_interval_are_not_binarized(binarize, tmp_path):
    rows = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", rows)
    settings = {"shape": None, "batch_size": 10, "validation_size": None, "binarize": binarize}
    data = ArrayData(str(tmp_path / "x.npy"), **settings)
    data.setup()
    with pytest.raises(SettingError, match=rf"dataset\.binarize={binarize}: is for values in"):
        data.values()
    # Of a row beyond the ends of the training split the nearest end is taken.
    data = ArrayData(str(tmp_path / "x.npy"), scale="minmax", **settings)
    data.setup()
    assert torch.equal(data.values(), torch.tensor([0.0, 1.0]))
    assert set(data.splits["validation"].binary.unique().tolist()) == {0, 1}
