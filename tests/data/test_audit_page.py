"""The page of an audit: whole in itself, escaped, bounded."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from lesion.data.audit_page import MOST_LISTED, MOST_SHOWN, render_page
from lesion.records import AuditReport, Finding

EVIL = "<script>alert('&\"')</script>"


def report_of(findings: list[Finding], root: str = "data") -> AuditReport:
    kinds = dict.fromkeys(finding.kind for finding in findings)
    counts = {kind: sum(finding.kind == kind for finding in findings) for kind in kinds}
    return AuditReport(root, "processed", 10, 5, 0, counts, findings)


def finding(*images: str, message: str = "said") -> Finding:
    return Finding("blurred", "warning", "blurred", images, message, None)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (600, 450), (200, 120, 100)).save(path)
    return path


class Tags(HTMLParser):
    """Counts tags, and checks that they close in their order."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert tags.open == []
    return tags


def test_pictures_lie_in_the_page_and_nothing_is_loaded(photo: Path) -> None:
    page = render_page(report_of([finding("a", "b")]), {"a": photo, "b": photo})
    assert read(page).seen.count("img") == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)', page))
    assert not re.search(r"https?://|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page
    assert len(page) < 30_000


def test_every_foreign_word_is_escaped(photo: Path) -> None:
    page = render_page(report_of([finding(EVIL, message=EVIL)], root=EVIL), {EVIL: photo})
    assert "<script" not in page
    assert "script" not in read(page).seen
    assert page.count("&lt;script&gt;") >= 4


def test_what_has_no_picture_says_so(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    page = render_page(report_of([finding("broken"), finding("gone")]), {"broken": broken})
    assert "no picture" in page
    assert "no file" in page
    assert "img" not in read(page).seen


def test_long_lists_are_cut_and_the_cut_is_said(photo: Path) -> None:
    many = [finding(f"image{i}") for i in range(MOST_LISTED + 30)]
    page = render_page(report_of(many), {f"image{i}": photo for i in range(len(many))})
    assert read(page).seen.count("img") == MOST_SHOWN
    assert f"{len(many)} found, the first {MOST_SHOWN} with pictures" in page
    assert "and 30 more, which this page leaves out" in page
    wide = render_page(report_of([finding(*(f"image{i}" for i in range(9)))]), {"image0": photo})
    assert "(and 3 more images)" in wide


def test_nothing_found_is_said() -> None:
    assert "Nothing was found." in render_page(report_of([]), {})
