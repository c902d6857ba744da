import numpy as np
import pytest

from aecli.errors import SettingError
from aecli.evaluation.detection import Detection, normal_class


@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        (["anomalous", "normal"], None, "normal"),
        (["0", "1"], None, "0"),
        (["Benign", "malignant"], None, "Benign"),
        (["cat", "dog"], None, None),
        (["normal"], None, None),
        (["0", "1", "2"], None, None),
        (["normal", "ok"], None, None),
        (["0", "1", "2"], "2", "2"),
        (["cat", "dog"], "dog", "dog"),
    ],
)
def test_the_normal_class_is_the_one_asked_for_or_told_by_its_name(names, asked, expected):
    assert normal_class(names, asked) == expected


@pytest.mark.parametrize(("names", "asked"), [(["cat", "dog"], "cow"), (["cat"], "cat"), ([], "0")])
def test_a_class_that_is_not_there_is_refused(names, asked):
    with pytest.raises(SettingError, match=f"normal={asked}: must be one of the classes of"):
        normal_class(names, asked)


def test_auroc_is_the_share_of_pairs_in_order_and_precision_that_at_each_anomaly():
    detection = Detection("ok")
    detection.add(np.array([1.0, 4.0]), np.array(["ok", "bad"], object))
    detection.add(np.array([3.0, 2.0]), np.array(["ok", "worse"], object))
    # Anomalies 4 and 2, normal 1 and 3: of 4 pairs 3 are in order.
    assert detection.auroc() == pytest.approx(3 / 4)
    assert detection.average_precision() == pytest.approx((1 / 1 + 2 / 3) / 2)
    numbers = Detection("0")
    numbers.add(np.array([1.0, 2.0]), np.array([0, 7]))
    assert numbers.auroc() == 1
