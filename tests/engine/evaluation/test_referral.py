import numpy as np
import pytest

from lesion.engine.evaluation.referral import estimate_referral, measure_certainty
from lesion.records import Estimate
from tests.engine.evaluation.conftest import answer

NOTHING = Estimate(None, None, None)


def test_a_case_by_hand() -> None:
    # Malignant: 0.9 found, 0.42 and 0.36 referred, 0.1 missed; benign: 0.1 twice right, 0.44 referred, 0.8 wrong.
    p, truth = [0.9, 0.42, 0.36, 0.1, 0.1, 0.1, 0.44, 0.8], [True] * 4 + [False] * 4
    found, why = estimate_referral(answer(p, truth))
    assert found.malignant_covered.value == 3 / 4  # at least 0.35
    assert found.benign_covered.value == 3 / 4  # at most 0.45
    assert found.referred.value == 3 / 8
    assert found.sensitivity.value == 1 / 2
    assert found.specificity.value == pytest.approx(2 / 3)
    assert (found.missed_alone.value, found.missed.value) == (2 / 4, 1 / 4)  # 0.36 is rescued
    assert found.rescued.value == 1 / 2
    assert found.withdrawn.value == 2 / 4  # 0.42 and 0.44
    assert found.flags == {"uncertain": 3}
    assert found.risk_coverage.y[-1] == 4 / 8  # all answered: 0.36 and 0.1 missed, 0.44 and 0.8 alarmed
    assert why == {}


def test_every_lesion_covers_alike() -> None:
    # Three images of one covered lesion, one of a lesion that is not: by lesion a half, by image three quarters.
    found, _ = estimate_referral(answer([0.9, 0.9, 0.9, 0.1, 0.1], [True] * 4 + [False], ["a", "a", "a", "b", "c"]))
    assert found.malignant_covered.value == pytest.approx(1 / 2)


def test_without_malignant_images_nothing_is_said_of_them() -> None:
    found, why = estimate_referral(answer([0.1, 0.2, 0.9], [False] * 3))
    assert found.malignant_covered == found.sensitivity == found.missed == NOTHING
    assert why["referral.missed"] == "no image is malignant"
    assert why["referral.sensitivity"] == "no malignant image is answered"
    assert found.benign_covered.value == pytest.approx(2 / 3)


def test_when_all_is_referred_no_answer_can_be_right() -> None:
    found, why = estimate_referral(answer([0.4, 0.41, 0.39], [True, False, True]))
    assert found.referred.value == 1
    assert found.sensitivity == found.specificity == NOTHING
    assert why["referral.specificity"] == "no benign image is answered"
    assert found.missed.value == 0


def test_certainty_is_the_distance_in_log_odds() -> None:
    p = np.array([0.2, 0.5, 0.0, 1.0])
    certainty = measure_certainty(p, 0.2)
    assert certainty[0] == 0
    assert certainty[1] == pytest.approx(np.log(4))
    assert np.isfinite(certainty).all()
    assert np.isfinite(measure_certainty(p, 0.0)).all()
