"""The table of thresholds."""

import json
from dataclasses import asdict

from lesion.metrics import estimate, estimate_thresholds
from tests.metrics.cases import study


def test_a_row_is_what_evaluation_at_its_threshold_would_say() -> None:
    p, t, lesions = study(100, 2)
    rows = estimate_thresholds(p, t, lesions, [0.2, 0.5])
    assert [row.threshold for row in rows] == [0.2, 0.5]
    for row in rows:
        alone = estimate(p, t, lesions, row.threshold)
        assert row.figures == {name: alone[name] for name in row.figures}
        assert sum(row.confusion.values()) == 200
        assert row.confusion["tp"] == (p[t] >= row.threshold).sum()
        assert row.missing == {}


def test_thresholds_that_flag_nobody_or_everyone_say_what_is_missing() -> None:
    everyone, nobody = estimate_thresholds([0.1, 0.5, 0.9], [0, 1, 1], ["a", "b", "c"], [0.0, 1.0])
    assert everyone.figures["negative_predictive_value"].value is None
    assert everyone.missing["negative_predictive_value"] == "every image is called malignant"
    assert nobody.missing["precision"] == "no image is called malignant"
    assert nobody.confusion == {"tp": 0, "fp": 0, "fn": 2, "tn": 1}
    assert nobody.figures["sensitivity"].high < 1
    json.dumps([asdict(everyone), asdict(nobody)], allow_nan=False)
