"""Escape text that a stranger may have written, with one function for each kind of output."""

import html
from typing import Any

LOG_CHARACTERS = 2000
# A cell that begins so is a formula to a spreadsheet (OWASP, "CSV Injection"); an apostrophe marks an escaped cell.
FORMULA = tuple("=+-@\t\r\n'＝＋－＠")


def to_terminal(text: object) -> str:
    r"""Return `text` as one line that a terminal only prints.

    Line ends, control sequences, and characters that hide or turn what follows become escapes such as ``\x1b``.
    """
    plain = str(text)
    return plain if plain.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in plain)


def to_log(text: object, characters: int = LOG_CHARACTERS) -> str:
    """Return `text` as for a terminal, cut to `characters`; the cut says how long the text was."""
    plain = str(text)
    cut = plain if len(plain) <= characters else f"{plain[:characters]}… ({len(plain)} characters)"
    return to_terminal(cut)


def to_html(text: object) -> str:
    """Return `text` as HTML text or the value of a quoted attribute, without control characters."""
    return html.escape(to_terminal(text))


def to_csv(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula; values other than text stay as they are."""
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ").startswith(FORMULA) else cell
