from dataclasses import replace

import pytest

from lesion.engine.evaluation.gate import NAMES, Bound, check_bounds, read_bounds, require
from lesion.errors import CheckFailed, ConfigError
from lesion.evaluation import Evaluation
from lesion.records import Estimate
from tests.engine.evaluation.sample import make_evaluation


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return make_evaluation(400)


def test_bounds_are_read_with_their_aliases() -> None:
    assert read_bounds(["auroc=0.9", "lesion.recall = .8"], ["ece=5e-2"]) == [
        Bound("auroc", True, 0.9),
        Bound("lesion.sensitivity", True, 0.8),
        Bound("calibration_error", False, 0.05),
    ]


@pytest.mark.parametrize("text", ["auroc", "auroc=", "auroc=high", "auroc=nan"])
def test_a_limit_is_a_number(text: str) -> None:
    with pytest.raises(ConfigError, match="a number expected after '='"):
        read_bounds([text], [])


def test_an_unknown_figure_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="unknown figure 'aurok'; did you mean 'auroc'"):
        read_bounds([], ["aurok=1"])


@pytest.mark.parametrize("name", NAMES)
def test_every_name_leads_to_a_figure(name: str, evaluation: Evaluation) -> None:
    (verdict,) = check_bounds(evaluation, [Bound(name, True, -1e9)])
    assert verdict.passed
    assert verdict.value is not None


def test_a_bound_is_kept_up_to_equality(evaluation: Evaluation) -> None:
    exact = replace(evaluation, metrics={**evaluation.metrics, "auroc": Estimate(0.9, 0.8, 1.0)})
    limits = [Bound("auroc", True, 0.9), Bound("auroc", False, 0.9), Bound("auroc", True, 0.91)]
    verdicts = check_bounds(exact, limits)
    assert [verdict.passed for verdict in verdicts] == [True, True, False]
    require(verdicts[:2])
    with pytest.raises(CheckFailed, match="1 of 3 bounds not kept: auroc"):
        require(verdicts)


@pytest.mark.parametrize("at_least", [True, False])
def test_what_cannot_be_computed_does_not_pass(at_least: bool, evaluation: Evaluation) -> None:
    nothing = {**evaluation.metrics, "auroc": Estimate(None, None, None)}
    blind = replace(evaluation, metrics=nothing, undefined={"auroc": "no image is malignant"})
    (verdict,) = check_bounds(blind, [Bound("auroc", at_least, 0.5)])
    assert not verdict.passed
    assert verdict.reason == "no image is malignant"
