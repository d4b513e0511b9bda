"""What strangers wrote stays text, whatever shows it."""

import pytest

from lesion.escape import to_csv, to_html, to_log, to_terminal

HOSTILE = ["\x1b]0;title\x07", "a\nerror: b", "\u202egpj.exe", "\ud800", "\x9b31m", "\u2028", "\0"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("escape", [to_terminal, to_log, to_html])
def test_a_text_stays_on_its_line_and_commands_nothing(escape: object, text: str) -> None:
    assert callable(escape)
    assert escape(text).isprintable()
    assert escape(text).isascii() or text.isprintable()


def test_the_escape_says_what_stood_there() -> None:
    assert to_terminal("é 皮\x1b[31m\n") == r"é 皮\x1b[31m\n"


def test_a_log_field_is_cut_and_says_so() -> None:
    assert to_log("x" * 300, 200) == "x" * 200 + "… (300 characters)"


def test_html_is_no_markup() -> None:
    assert to_html('<a href="x">&\'') == "&lt;a href=&quot;x&quot;&gt;&amp;&#x27;"


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "'=1", "＝1", " =cmd|' /C calc'!A0"]
)
def test_no_cell_is_a_formula(cell: str) -> None:
    assert to_csv(cell) == f"'{cell}"


def test_other_cells_stay() -> None:
    assert [to_csv(cell) for cell in ("a=b", "", None, -1.5)] == ["a=b", "", None, -1.5]
