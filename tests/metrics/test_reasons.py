"""Reasons in words."""

import numpy as np
import pytest

from lesion.metrics import explain, measure, why_undefined
from lesion.metrics.reasons import AGREE, NO_SLOPE, TOO_FEW
from lesion.records import Estimate

TRUTHS = {"malignant": [1, 1, 1], "benign": [0, 0, 0], "both": [1, 0, 1], "empty": []}


@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_there_is_a_reason_exactly_where_there_is_no_figure(truth: list[int], threshold: float) -> None:
    p = np.array([0.1, 0.6, 0.9])[: len(truth)]
    for name, value in measure(p, truth, threshold).items():
        assert (why_undefined(name, truth, p >= threshold) is None) == np.isfinite(value[0]), name


@pytest.mark.parametrize(
    ("name", "truth", "predicted", "reason"),
    [
        ("auroc", [0, 0], None, "no image is malignant"),
        ("auroc", [1, 1], None, "every image is malignant"),
        ("roc", [1, 1], None, "every image is malignant"),
        ("specificity", [1, 1], [0, 0], "every image is malignant"),
        ("precision", [0, 1], [0, 0], "no image is called malignant"),
        ("negative_predictive_value", [0, 1], [1, 1], "every image is called malignant"),
        ("brier", [], [], "there are no images"),
        ("brier", [0], [0], None),
        ("precision", [0, 1], None, None),
    ],
)
def test_reasons(name: str, truth: list[int], predicted: list[int] | None, reason: str | None) -> None:
    assert why_undefined(name, truth, predicted) == reason


def test_a_diagnosis_is_named() -> None:
    assert why_undefined("auroc", [0, 0], positive="df") == "no image is df"


def test_only_what_is_missing_is_explained() -> None:
    estimates = {
        "auroc": Estimate(None, None, None), "brier": Estimate(0.1, None, None), "accuracy": Estimate(0.5, 0.4, 0.6)
    }  # fmt: skip
    assert explain(estimates, [1, 1], [1, 0], ["a", "b"]) == {
        "auroc": "every image is malignant",
        "brier": "there are too few lesions for an interval",
    }


def test_the_reason_for_a_missing_interval_is_the_right_one() -> None:
    found = {"average_precision": Estimate(1.0, None, None), "calibration_error": Estimate(0.1, None, None),
             "calibration_slope": Estimate(None, None, None)}  # fmt: skip
    truth, lesions = [0, 0, 0, 1, 1, 1], list("abcdef")
    assert explain(found, truth, truth, lesions) == {"average_precision": AGREE, "calibration_slope": NO_SLOPE}
    assert explain(found, truth, truth, list("abcddd"))["average_precision"] == TOO_FEW
