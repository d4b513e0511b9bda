import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lesion.engine.evaluation.subgroups import LEAST, TONE, estimate_subgroups, sort_values
from lesion.engine.evaluation.words import is_lower
from lesion.evaluation import Subgroup
from tests.engine.evaluation.conftest import answer

BLANK = (210, 180, 140)


def estimate(n: int, **row: list[str]) -> tuple[dict[tuple[str, str], Subgroup], dict[str, str]]:
    rng = np.random.default_rng(1)
    truth = np.arange(n) % 3 == 0
    p = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0.01, 0.99)
    found, why = estimate_subgroups(answer(p, truth, **row), np.full((n, 32, 32, 3), BLANK, np.uint8))
    return {(each.group, each.value): each for each in found}, why


def test_figures_are_those_of_the_group_alone() -> None:
    sexes = ["female", "male"] * 60
    found, _ = estimate(120, sex=sexes)
    one = found["sex", "female"]
    assert (one.images, one.lesions, one.malignant) == (60, 60, 20)
    rng = np.random.default_rng(1)
    truth = np.arange(120) % 3 == 0
    p = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0.01, 0.99)
    inside = np.arange(120) % 2 == 0
    assert one.metrics["auroc"].value == pytest.approx(roc_auc_score(truth[inside], p[inside]))
    assert one.metrics["sensitivity"].value == pytest.approx((p >= 0.4)[inside & truth].mean())
    assert one.metrics["referred"].value == pytest.approx(((p >= 0.35) & (p <= 0.45))[inside].mean())
    assert all(each.low is not None for each in one.metrics.values())
    assert one.undefined == {}


def test_too_few_lesions_get_a_reason_and_no_figure() -> None:
    found, _ = estimate(60, sex=["female"] * 45 + ["male"] * 15)
    few = found["sex", "male"]
    assert few.metrics["auroc"].value is None
    assert few.undefined["auroc"] == f"5 malignant lesions, at least {LEAST} expected"
    assert few.undefined["sensitivity"] == few.undefined["auroc"]
    assert few.metrics["specificity"].value is not None
    assert "specificity" not in few.undefined


def test_many_images_of_few_lesions_are_too_few() -> None:
    truth = [True] * 40 + [False] * 40
    found, _ = estimate_subgroups(
        answer(np.linspace(0.9, 0.1, 80), truth, ["a"] * 40 + [f"b{i}" for i in range(40)], sex=["male"] * 80),
        np.full((80, 32, 32, 3), BLANK, np.uint8),
    )
    (male,) = [each for each in found if each.group == "sex"]
    assert male.undefined["auroc"] == f"1 malignant lesion, at least {LEAST} expected"


def test_a_subgroup_is_compared_with_all_other_images() -> None:
    sexes = ["female", "male", "male"] * 100
    truth = np.arange(300) % 2 == 0
    found = np.where(np.array(sexes) == "female", np.arange(300) % 12 < 6, np.arange(300) % 100 != 0)
    p = np.where(truth == found, 0.9, 0.1)
    groups, _ = estimate_subgroups(answer(p, truth, sex=sexes), np.full((300, 32, 32, 3), BLANK, np.uint8))
    female, male = (next(each for each in groups if each.value == value) for value in ("female", "male"))
    right = (p >= 0.4) == truth
    assert female.rest["sensitivity"] == pytest.approx(right[truth & (np.array(sexes) == "male")].mean())
    assert is_lower(female, "sensitivity")
    assert is_lower(female, "auroc")
    assert not any(is_lower(male, name) for name in male.p_lower)
    (tone,) = [each for each in groups if each.group == TONE]  # all images: there is no rest
    assert tone.rest == tone.p_lower == {}


def test_what_the_metadata_do_not_say_is_said() -> None:
    found, why = estimate(30)
    assert {group for group, _ in found} == {TONE}
    assert set(why) == {f"subgroups.{group}" for group in ("age", "sex", "site", "confirmation")}
    assert why["subgroups.sex"] == "unknown for every image: the metadata say nothing of it"


def test_what_is_unknown_of_some_is_a_group() -> None:
    found, why = estimate(30, age=["35"] * 10 + ["88"] * 10 + ["old"] * 10)
    assert [value for group, value in found if group == "age"] == ["30–39", "80+", "unknown"]
    assert "subgroups.age" not in why


def test_values_come_in_a_readable_order() -> None:
    assert sort_values(["80+", "unknown", "0–9", "10–19"]) == ["0–9", "10–19", "80+", "unknown"]
    assert sort_values(["tan", "unknown", "dark", "very light"]) == ["very light", "tan", "dark", "unknown"]
    assert sort_values(["back", "face", "face", "unknown", "unknown", "unknown"]) == ["face", "back", "unknown"]
