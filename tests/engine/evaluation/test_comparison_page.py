"""The page of a comparison: what it says is what was found, and it needs nothing else."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lesion.engine.evaluation.comparison_page import find_better, render_comparison, tell_differences
from lesion.evaluation import ComparisonReport, Difference
from lesion.records import NOTICE, Curve, Estimate
from tests.browser import open_browser
from tests.engine.evaluation.test_page import EVIL, NEEDS_CHROMIUM, Reader

ROC = Curve((0.0, 0.5, 1.0), (0.0, 0.8, 1.0), (0.0, 0.7, 1.0), (0.0, 0.9, 1.0))
NOTHING = Curve((0.0, 1.0), (None, None), (None, None), (None, None))


def differ(figure: str, low: float | None, value: float | None, high: float | None) -> Difference:
    level = Estimate(0.8, 0.7, 0.9)
    return Difference(figure, level, level, Estimate(value, low, high), 0.0004 if low else None, "lesion bootstrap")


REPORT = ComparisonReport(
    a="resnet@0123456789ab", b="baseline@ba9876543210", split="test", fingerprint="c8b320cbe612", images=1501,
    lesions=1126, flipped=150, roc_a=ROC, roc_b=ROC,
    differences=[differ("auroc", 0.011, 0.02, 0.03), differ("sensitivity", -0.03, -0.02, -0.01),
                 differ("brier", -0.02, -0.01, -0.005), differ("specificity", -0.01, 0.0, 0.01),
                 differ("lesion.auroc", None, None, None)],
)  # fmt: skip


@pytest.mark.parametrize(
    ("difference", "better"),
    [(differ("auroc", 0.1, 0.2, 0.3), "A"), (differ("auroc", -0.3, -0.2, -0.1), "B"),
     (differ("brier", 0.1, 0.2, 0.3), "B"), (differ("calibration_error", -0.3, -0.2, -0.1), "A"),
     (differ("auroc", -0.1, 0.2, 0.3), None), (differ("auroc", 0.0, 0.2, 0.3), None),
     (differ("auroc", None, None, None), None)],
)  # fmt: skip
def test_who_is_better_is_said_only_when_the_interval_says_it(difference: Difference, better: str | None) -> None:
    assert find_better(difference) == better


def test_words_say_what_the_data_can_and_cannot_tell() -> None:
    one, two, unknown, calls = tell_differences(REPORT)
    assert one.startswith("A is better in AUROC by 0.020 (0.011 to 0.030); Brier score by −0.010")
    assert two.startswith("B is better in Sensitivity (recall) by −2.0 %")
    assert unknown == "These images do not tell which of the two is better in Specificity, AUROC over lesions."
    error = differ("calibration_error", None, 0.01, None)  # never tested, so nothing is open about it
    assert tell_differences(replace(REPORT, differences=[*REPORT.differences, error]))[2] == unknown
    assert calls == "They call 150 images differently, 10.0 % of them all."


def test_the_page_loads_nothing_runs_nothing_and_shows_both() -> None:
    page = render_comparison(REPORT)
    reader = Reader(page)
    assert not {"script", "link", "iframe", "object", "form", "img"} & set(reader.tags)
    assert not re.search(r"url\(|@import|https?:", page)
    for said in (NOTICE, REPORT.a, REPORT.b, "c8b320cbe612", "1,501 images", "< 0.001", "ROC curves", "less is better"):
        assert said in reader.text
    assert "svg" in reader.tags
    assert "ROC curves" not in render_comparison(replace(REPORT, roc_b=NOTHING))


def test_what_strangers_wrote_cannot_become_markup() -> None:
    evil = replace(REPORT, a=EVIL, b=EVIL, split=EVIL, fingerprint=EVIL, differences=[differ(EVIL, 0.1, 0.2, 0.3)])
    page = render_comparison(evil)
    assert "<script" not in page
    assert "\x1b" not in page


@NEEDS_CHROMIUM
@pytest.mark.slow
def test_a_browser_shows_it_without_sideways_scrolling(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(render_comparison(REPORT), "utf-8")
    with open_browser() as browser:
        for width, scheme in ((1280, "light"), (390, "dark")):
            browser.open(file, width, scheme=scheme)
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert browser.complaints == []
