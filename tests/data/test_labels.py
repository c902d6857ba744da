"""Labels of the user's own become numbers, and keep their names."""

import numpy as np
import pytest

from aecli.data.labels import as_labels
from aecli.errors import SettingError


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [
        ([3, 0, 3], [3, 0, 3], ()),
        ([3.0, 0.0, 3.0], [3, 0, 3], ()),
        (np.array([3, 0, 3], "u1"), [3, 0, 3], ()),
        (["wren", "tit", "wren"], [1, 0, 1], ("tit", "wren")),
        ([True, False, True], [1, 0, 1], ("False", "True")),
        ([-1, 1, -1], [0, 1, 0], ("-1", "1")),
    ],
)
def test_labels(values, labels, names):
    found, classes = as_labels(np.asarray(values), "labels")
    assert found.tolist() == labels
    assert classes == names


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0.5, 1], "holds floats, such as 0.5"),
        ([np.nan, 1], r"1 are missing \(NaN\)"),
        ([np.inf, 1], "holds floats, such as inf"),
        (np.arange(10_001), "has 10,001 classes, and can have 10,000"),
    ],
)
def test_what_is_no_label(values, says):
    with pytest.raises(SettingError, match=rf"^dataset\.labels: {says}"):
        as_labels(np.asarray(values), "labels")
