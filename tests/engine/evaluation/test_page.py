"""The page: complete in itself, true to the record, deaf to what strangers write, and fit for a real browser."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lesion.engine.evaluation.headline import count_thousand
from lesion.engine.evaluation.page import CONTENTS, render_page
from lesion.engine.evaluation.pictures import AGAINST, FOR, blend
from lesion.engine.evaluation.words import name_path, of_hundred, show, show_number, show_share
from lesion.evaluation import Difference, Evaluation
from lesion.metrics import OF_CALIBRATION
from lesion.records import NOTICE, Estimate
from tests.browser import CHROMIUM, Browser, open_browser
from tests.engine.evaluation.sample import make_bare, make_evaluation, make_pictures

EVIL = "<script>alert(1)</script>\"'&{style}\x1b[31m"
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


class Reader(HTMLParser):
    """Tags, attributes and text, and proof that what is opened is closed in its order."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return make_evaluation()


@pytest.fixture(scope="module")
def page(evaluation: Evaluation) -> str:
    return render_page(evaluation, make_pictures(evaluation))


def test_the_answer_comes_first_and_everything_else_is_there(page: str, evaluation: Evaluation) -> None:
    text = Reader(page).text
    lesions = evaluation.lesion_metrics
    assert lesions["sensitivity"].value is not None
    found = of_hundred(lesions["sensitivity"].value)
    order = [NOTICE, "400 images of", f"{found} of 100", "A thousand lesions",
             *("All figures", "ROC curve", "Precision-recall curve", "Before the temperature", "Other thresholds"),
             *("Decision curve", "melanoma (mel)", "By age", "Changed images", "Risk-coverage", "The worst errors"),
             *("What could not be computed", "How this was measured", "c8b320cbe612", "over lesions")]  # fmt: skip
    places = [text.find(each, 0 if index == 0 else text.find(order[index - 1])) for index, each in enumerate(order)]
    assert -1 not in places, order[places.index(-1)]
    for name, estimate in evaluation.metrics.items():
        assert show(estimate, name).partition(" (")[0] in text


def test_the_calibration_error_stands_beside_what_chance_explains(page: str, evaluation: Evaluation) -> None:
    chance = evaluation.metrics["calibration_error_expected"]
    text = Reader(page).text
    assert f"by chance alone: {show_number(chance.low)} to {show_number(chance.high)}" in text
    assert "With perfectly calibrated probabilities, chance alone would show" in text
    old = {name: each for name, each in evaluation.metrics.items() if name not in OF_CALIBRATION}
    assert "chance alone" not in Reader(render_page(replace(evaluation, metrics=old), {})).text


def test_other_thresholds_have_intervals_where_they_are_recorded(evaluation: Evaluation) -> None:
    (row, *_) = evaluation.operating_table
    known = replace(row, intervals={"sensitivity": Estimate(0.777, 0.666, 0.888)})
    text = Reader(render_page(replace(evaluation, operating_table=[known]), {})).text
    assert "77.7 %66.6 to 88.8 %" in text
    assert show_share(row.specificity) in text


def test_a_subgroup_that_is_lower_than_the_rest_is_marked(evaluation: Evaluation) -> None:
    group = replace(evaluation.subgroups[0], rest={"auroc": 0.987}, p_lower={"auroc": 0.01})
    assert "lower: 0.987 elsewhere" in Reader(render_page(replace(evaluation, subgroups=[group]), {})).text
    likely = replace(group, p_lower={"auroc": 0.2})
    assert "elsewhere" not in Reader(render_page(replace(evaluation, subgroups=[likely]), {})).text


def test_every_part_is_linked_and_headed_in_order(page: str) -> None:
    for name in CONTENTS:
        assert f'href="#{name}"' in page
        assert page.count(f'id="{name}"') == 1
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_tables_name_their_rows_and_columns_and_drawings_tell_what_they_show(page: str) -> None:
    assert re.findall(r"<th(?! scope=)[ >]", page) == []
    assert page.count("<table>") == page.count("<caption>") == page.count('role="region" tabindex="0"')
    drawings = re.findall(r"<svg[^>]*>(?:<title>)?", page)
    assert all("aria-hidden" in drawing or drawing.endswith('role="img"><title>') for drawing in drawings)
    assert re.findall(r"<img(?![^>]* alt=)", page) == []
    assert '<label for="heat">' in page


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    reader = Reader(page)
    assert not {"script", "link", "iframe", "object", "form"} & set(reader.tags)
    assert not [name for _, name, _ in reader.attributes if name.startswith("on") or name == "style"]
    loaded = [value or "" for _, name, value in reader.attributes if name in ("src", "srcset", "action")]
    assert len(loaded) == 24
    assert all(value.startswith("data:image/jpeg;base64,") for value in loaded)
    assert all((value or "#").startswith("#") for _, name, value in reader.attributes if name == "href")
    assert not re.search(r"url\(|@import|https?:", page)
    assert "default-src 'none'" in page
    assert len(page) < 400_000


def test_what_strangers_wrote_cannot_become_markup(evaluation: Evaluation) -> None:
    case = replace(evaluation.worst[0], image_id=EVIL, dx=EVIL, flags=(EVIL,), diagnosis_probabilities={EVIL: 0.5})
    group = replace(evaluation.subgroups[0], group=EVIL, value=EVIL, undefined={"auroc": EVIL})
    stress = replace(evaluation.stress[0], name=EVIL, level=EVIL)
    gain = Difference(EVIL, *[Estimate(0.5, 0.4, 0.6)] * 3, None, EVIL)
    evil = replace(
        evaluation, model=EVIL, split=EVIL, data=EVIL, fingerprint=EVIL, operating_point=EVIL, undefined={EVIL: EVIL},
        diagnoses={EVIL: evaluation.diagnoses["mel"]}, subgroups=[group], stress=[stress], worst=[case],
        tta_gain=[gain],
        referral=replace(evaluation.referral, flags={EVIL: 1}), metrics=evaluation.metrics | {EVIL: gain.a},
        lesion_metrics=evaluation.lesion_metrics | {EVIL: gain.a},
    )  # fmt: skip
    pixels, heat = np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2), np.float32)
    reader = Reader(render_page(evil, {EVIL: (pixels, heat)}))
    assert "script" not in reader.tags
    assert reader.text.count("alert(1)") >= 20
    assert "\x1b" not in reader.text


def test_what_has_no_value_says_why_and_never_becomes_a_number() -> None:
    bare = replace(make_bare(), undefined={"auroc": "no image is malignant", "lesion.sensitivity": "none at all"})
    text = Reader(render_page(bare, {})).text
    assert "Not computed: no image is malignant" in text
    assert "Not computed: none at all" in text
    assert "A thousand lesions" not in text
    assert "only benign and malignant" in text
    assert "None were run" in text
    assert "no errors to show" in text
    assert not re.search(r"\b(nan|None|inf)\b(?! were run)", text)


@pytest.mark.parametrize(("split", "words"), [("val", "its figures flatter"), ("train", "nothing about new ones")])
def test_a_split_that_was_learned_from_is_said_to_flatter(evaluation: Evaluation, split: str, words: str) -> None:
    assert words in render_page(replace(evaluation, split=split), {})


def test_an_image_without_a_picture_or_with_a_broken_map_says_so(evaluation: Evaluation) -> None:
    broken = {evaluation.worst[0].image_id: (np.zeros((8, 8, 3), np.uint8), np.full((2, 2), np.nan, np.float32))}
    page = render_page(evaluation, broken)
    assert page.count("no picture") == len(evaluation.worst) - 1
    assert page.count("no heat map") == 1


def test_skin_tone_is_called_a_proxy(page: str, evaluation: Evaluation) -> None:
    assert "Skin tone is a proxy here" in page
    others = [each for each in evaluation.subgroups if "tone" not in each.group]
    assert "proxy" not in render_page(replace(evaluation, subgroups=others), {})


def test_what_eight_views_gain_is_shown(evaluation: Evaluation) -> None:
    gain = Difference("lesion.auroc", *[Estimate(0.9, 0.8, 0.95)] * 2, Estimate(-0.0123, -0.02, -0.001), 4e-5, "DeLong")
    eight = replace(evaluation, tta=True, tta_gain=[gain], plain_images_per_second=91.4)
    text = Reader(render_page(eight, {})).text
    assert "AUROC over lesions" in text
    assert "−0.012" in text
    assert "< 0.001" in text
    assert "mean over eight views" in text
    assert "from one view at 91" in text


def test_a_thousand_lesions_follow_the_record(evaluation: Evaluation) -> None:
    known = {"sensitivity": Estimate(0.9, 0.8, 1.0), "specificity": Estimate(0.75, 0.7, 0.8)}
    counted = count_thousand(replace(evaluation, lesions=500, malignant_lesions=100, lesion_metrics=known))
    assert counted == {"found": 180, "missed": 20, "alarm": 200, "clear": 600}
    unknown = known | {"sensitivity": Estimate(None, None, None)}
    assert count_thousand(replace(evaluation, lesion_metrics=unknown)) is None


def test_a_map_is_orange_for_malignant_and_blue_against_over_a_grey_picture() -> None:
    pixels = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    blended = blend(pixels, np.array([[4, 0], [0, -4]], np.float32)).astype(int)
    assert blended.shape == (16, 16, 3)
    assert np.abs(blended[0, 0] - FOR).max() < 40
    assert np.abs(blended[-1, -1] - AGAINST).max() < 40
    flat = blend(pixels, np.zeros((2, 2), np.float32))
    assert (flat == flat[..., :1]).all()


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "0"), (0.004, "fewer than 1"), (0.951, "95"), (0.999, "more than 99"), (1.0, "100")]
)
def test_what_is_not_all_is_never_rounded_to_all(share: float, words: str) -> None:
    assert of_hundred(share) == words


@pytest.mark.parametrize(
    ("estimate", "name", "words"),
    [(Estimate(0.8714, 0.8, 0.9), "auroc", "0.871 (0.800 to 0.900)"), (Estimate(None, None, None), "auroc", "–"),
     (Estimate(0.951, 0.9, 1.0), "sensitivity", "95.1 % (90.0 to 100.0 %)"),
     (Estimate(-0.0001, -0.01, 0.01), "", "0.000 (−0.010 to 0.010)"),
     (Estimate(0.5, None, None), "", "0.500 (no interval)")],
)  # fmt: skip
def test_estimates_in_words(estimate: Estimate, name: str, words: str) -> None:
    assert show(estimate, name) == words


def test_single_numbers_in_words() -> None:
    assert (show_number(None), show_share(None), show_share(-0.0123), show_share(-1e-9)) == (
        "–",
        "–",
        "−1.2 %",
        "0.0 %",
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [("auroc", "AUROC"), ("lesion.f1", "F1 over lesions"), ("diagnoses.mel.f1", "F1, melanoma (mel)"),
     ("diagnoses.macro.f1", "F1, mean of all diagnoses"), ("subgroups.sex", "Subgroups by sex"),
     ("referral.missed", "Missed, referral"), ("odd_one", "Odd one")],
)  # fmt: skip
def test_names_of_figures_in_words(path: str, words: str) -> None:
    assert name_path(path) == words


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@NEEDS_CHROMIUM
@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_it_without_complaint_request_or_sideways_scrolling(
    browser: Browser, page: str, tmp_path: Path, width: int, scheme: str
) -> None:
    file = tmp_path / "page.html"
    file.write_text(page, "utf-8")
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(file, width, scheme=scheme)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.evaluate("innerWidth") == width
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 21, 19)"
    assert dark == (scheme == "dark")
    assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    shown = "[...document.images].filter(image => image.getClientRects().length).map(image => image.className)"
    assert set(browser.evaluate(shown)) == {"photo"}
    browser.evaluate("document.querySelector('label[for=heat]').click()")
    assert set(browser.evaluate(shown)) == {"heat"}
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
