"""Subgroups against the rest: correction, direction, and how often nothing is taken for something."""

import numpy as np
import pytest
from scipy import stats

from lesion.metrics.contrast import correct, p_of_lower_auroc, p_of_lower_share


def test_correction_by_hand() -> None:
    assert correct([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert correct([0.5, 0.6]) == [1.0, 1.0]
    assert correct([]) == []


def test_p_values_of_the_same_share_are_even_and_of_a_lower_one_small() -> None:
    rng, ids = np.random.default_rng(0), np.arange(400)
    inside = ids < 80
    even = [p_of_lower_share(rng.random(400) < 0.85, inside, ids) for _ in range(400)]
    assert np.mean(np.array(even) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert p_of_lower_share(rng.random(400) < np.where(inside, 0.6, 0.9), inside, ids) < 1e-4
    assert p_of_lower_share(rng.random(400) < np.where(inside, 0.95, 0.7), inside, ids) > 0.9


def test_p_values_of_the_same_auroc_are_even_and_of_a_lower_one_small() -> None:
    rng, ids = np.random.default_rng(0), np.arange(400)
    inside, truth = ids % 5 == 0, ids % 4 == 0
    even = [p_of_lower_auroc(rng.normal(1.5 * truth), truth, inside, ids) for _ in range(400)]
    assert np.mean(np.array(even) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert stats.kstest(even, "uniform").pvalue > 0.001
    assert p_of_lower_auroc(rng.normal(2.5 * (truth & ~inside)), truth, inside, ids) < 0.01


def test_copies_of_images_are_no_evidence() -> None:
    rng, ids = np.random.default_rng(3), np.arange(200)
    hits, truth, scores, inside = rng.random(200) < 0.8, ids % 3 == 0, rng.normal(size=200), ids < 60
    once = p_of_lower_share(hits, inside, ids), p_of_lower_auroc(scores, truth, inside, ids)
    hits, truth, scores, inside, ids = (np.repeat(each, 3) for each in (hits, truth, scores, inside, ids))
    assert (p_of_lower_share(hits, inside, ids), p_of_lower_auroc(scores, truth, inside, ids)) == pytest.approx(once)


def test_what_cannot_be_compared_has_no_p_value() -> None:
    everyone = np.ones(4, bool)
    assert p_of_lower_share(everyone, everyone, np.arange(4)) is None
    assert p_of_lower_auroc(np.arange(4), everyone, np.arange(4) < 2, np.arange(4)) is None
