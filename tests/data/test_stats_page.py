"""The page of statistics: complete in itself, well-formed, and deaf to what strangers write into a dataset."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lesion.data.stats_page import MOST, draw_page
from lesion.records import StatsReport

COUNTS = {"images": 30, "lesions": 20, "malignant": 10}
REPORT = StatsReport(
    root="data/mine",
    images=1234,
    lesions=900,
    malignant=100,
    groups={"diagnosis": {"mel": COUNTS}, "site": {"back": COUNTS, "unknown": {**COUNTS, "malignant": 0}}},
    images_per_lesion={"1": 800, "2": 100},
    missing={"age": 7, "sex": 0},
    written=[],
)
EVIL = "<script>alert(1)</script>\"'&\x1b[31m{style}"


class Reader(HTMLParser):
    """Collects tags and attributes, and checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_the_page_shows_the_numbers() -> None:
    reader = read(draw_page(REPORT, b"jpeg"))
    for text in ("data/mine", "1,234", "malignant (8.1%)", "mel · melanoma", "Site", "back", "age"):
        assert text in reader.text, text
    assert reader.tags.count("svg") == 1 + 2 + 2 + 1


def test_the_page_needs_nothing_else() -> None:
    page = draw_page(REPORT, b"jpeg")
    reader = read(page)
    assert re.search(r"(?i)https?:|//[a-z]|url\(|@import", re.sub(r"base64,[^\"]*", "", page)) is None
    assert {"script", "link", "iframe", "object"}.isdisjoint(reader.tags)
    assert reader.attributes["src"] == ["data:image/jpeg;base64,anBlZw=="]
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in reader.attributes["content"]
    assert not [name for name in reader.attributes if name.startswith("on")]


def test_light_dark_and_narrow() -> None:
    page = draw_page(REPORT, b"")
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page


def test_everything_is_escaped() -> None:
    groups = {EVIL: {EVIL: COUNTS}, "diagnosis": {EVIL: COUNTS}}
    report = replace(REPORT, root=EVIL, groups=groups, missing={EVIL: 3}, images_per_lesion={EVIL: 1})
    page = draw_page(report, b"")
    reader = read(page)
    assert "script" not in reader.tags
    assert "\x1b" not in page
    assert reader.text.count("<script>alert(1)</script>") >= 5
    assert "{style}" in reader.text


def test_a_column_of_free_text_does_not_flood_the_page() -> None:
    report = replace(REPORT, groups={"site": {f"place {i}": COUNTS for i in range(1000)}})
    reader = read(draw_page(report, b""))
    assert f"and {1000 - MOST} more values" in reader.text
    assert reader.tags.count("svg") < 60


@pytest.mark.parametrize("groups", [{}, {"site": {}}])
def test_nothing_to_show_is_still_a_page(groups: dict[str, dict[str, dict[str, int]]]) -> None:
    read(draw_page(replace(REPORT, images=0, malignant=0, groups=groups, images_per_lesion={}, missing={}), b""))
