"""One diagnosis against the others."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from sklearn import metrics as sk

from lesion.errors import DataError
from lesion.metrics import DiagnosesFigures, estimate_diagnoses, measure_diagnoses

LABELS = ("bcc", "mel", "nv")


def answers(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, n)
    p = rng.dirichlet(np.ones(3), n) + 0.4 * np.eye(3)[targets]
    return np.round(p / p.sum(1, keepdims=True), 2), targets


def estimated(n: int = 120) -> DiagnosesFigures:
    return estimate_diagnoses(*answers(n), LABELS, [str(i // 2) for i in range(n)])


@pytest.mark.parametrize("seed", range(5))
def test_figures_agree_with_scikit_learn(seed: int) -> None:
    p, t = answers(60, seed)
    found = {name: value[0] for name, value in measure_diagnoses(p, t).items()}
    precision, sensitivity, f1, _ = sk.precision_recall_fscore_support(t, p.argmax(1), labels=[0, 1, 2])
    assert found["precision"] == pytest.approx(precision)
    assert found["sensitivity"] == pytest.approx(sensitivity)
    assert found["f1"] == pytest.approx(f1)
    for d in range(3):
        assert found["auroc"][d] == pytest.approx(sk.roc_auc_score(t == d, p[:, d]))
        assert found["average_precision"][d] == pytest.approx(sk.average_precision_score(t == d, p[:, d]))


def test_means_agree_with_scikit_learn() -> None:
    p, t = answers(120)
    macro = {name: e.value for name, e in estimated().macro.items()}
    assert macro["f1"] == pytest.approx(sk.f1_score(t, p.argmax(1), average="macro"))
    assert macro["sensitivity"] == pytest.approx(sk.balanced_accuracy_score(t, p.argmax(1)))
    assert macro["precision"] == pytest.approx(sk.precision_score(t, p.argmax(1), average="macro"))
    areas = [sk.roc_auc_score(t == d, p[:, d]) for d in range(3)]
    assert macro["auroc"] == pytest.approx(np.mean(areas))


def test_every_figure_has_its_interval() -> None:
    report = estimated()
    assert report.over == LABELS
    assert list(report.each) == list(LABELS)
    assert sum(each.images for each in report.each.values()) == 120
    assert not report.missing
    for figures in (report.macro, *(each.figures for each in report.each.values())):
        assert all(e.low < e.value < e.high for e in figures.values())
    means = report.macro["sensitivity"]
    assert means.high - means.low < min(
        each.figures["sensitivity"].high - each.figures["sensitivity"].low for each in report.each.values()
    )


def test_a_diagnosis_without_images_has_no_figures_and_no_part_in_the_means() -> None:
    p = [[0.1, 0.7, 0.2], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]]
    report = estimate_diagnoses(p, [1, 2, 1, 2], LABELS, list("abcd"))
    assert report.over == ("mel", "nv")
    assert report.macro["auroc"].value == report.macro["sensitivity"].value == 1
    absent = report.each["bcc"]
    assert absent.images == absent.lesions == 0
    assert {name for name, e in absent.figures.items() if e.value is None} == set(absent.figures)
    assert absent.missing["auroc"] == absent.missing["f1"] == "no image is bcc"
    assert absent.missing["precision"] == "no image is called bcc"
    json.dumps(asdict(report), allow_nan=False)


def test_a_diagnosis_that_is_never_the_answer_leaves_no_mean_precision() -> None:
    report = estimate_diagnoses([[0.1, 0.6, 0.3]] * 4, [0, 1, 1, 1], LABELS, list("abcd"))
    assert report.over == ("bcc", "mel")
    assert report.macro["precision"].value is None
    assert report.missing["precision"] == "no image is called bcc"
    assert report.macro["f1"].value == pytest.approx((0 + 6 / 7) / 2)


def test_a_single_diagnosis_and_no_images_say_so() -> None:
    alone = estimate_diagnoses([[0.1, 0.6, 0.3]] * 2, [1, 1], LABELS, ["a", "b"])
    assert alone.missing["auroc"] == "every image is mel"
    nothing = estimate_diagnoses(np.empty((0, 3)), [], LABELS, [])
    assert set(nothing.missing.values()) == {"there are no images"}
    json.dumps([asdict(alone), asdict(nothing)], allow_nan=False)


def test_nan_is_an_error() -> None:
    with pytest.raises(DataError, match="1 of 2 images are unusable, the first nan for image 2"):
        estimate_diagnoses([[0.5, 0.5], [0.5, np.nan]], [0, 1], ("a", "b"), ["x", "y"])
