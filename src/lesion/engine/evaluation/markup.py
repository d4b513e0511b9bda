"""Sections and tables of the page; what they are given as HTML is safe already."""

from collections.abc import Iterable, Sequence

from lesion.engine.evaluation.words import show
from lesion.escape import to_html
from lesion.records import Estimate


def draw_section(name: str, title: str, *parts: str) -> str:
    """A section that the contents link to."""
    return f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{to_html(title)}</h2>' + (
        "\n".join(part for part in parts if part) + "</section>"
    )


def draw_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], marked: int | None = None) -> str:
    """A table whose first column names its rows; it scrolls by itself when it is wider than the page.

    Args:
        caption: plain text.
        head: plain text; a column whose name begins with "#" holds numbers.
        rows: cells as HTML.
        marked: the index of a row to stress; what is special about it has to stand in it in words.
    """
    styles = [' class="number"' if text.startswith("#") else "" for text in head]
    top = "".join(
        f'<th scope="col"{style}>{to_html(text.removeprefix("#"))}</th>'
        for style, text in zip(styles, head, strict=True)
    )
    body = ""
    for index, (name, *cells) in enumerate(rows):
        data = "".join(f"<td{style}>{cell}</td>" for style, cell in zip(styles[1:], cells, strict=True))
        body += f'<tr{" class=marked" if index == marked else ""}><th scope="row">{name}</th>{data}</tr>'
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{to_html(caption)}"><table>'
        f"<caption>{to_html(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def draw_figure(chart: str, caption: str, keys: Sequence[tuple[str, str]] = ()) -> str:
    """A drawing in a frame, its caption (plain text), and what its lines are: (style, plain text)."""
    legend = "".join(
        f'<li><svg class="swatch" viewBox="0 0 26 8" aria-hidden="true"><path class="line {style}" d="M0 4H26"/></svg>'
        f"{to_html(text)}</li>"
        for style, text in keys
    )
    return (
        f'<figure class="card"><figcaption>{to_html(caption)}</figcaption>{chart}'
        + (f'<ul class="legend">{legend}</ul>' if legend else "")
        + "</figure>"
    )


def stack(estimate: Estimate, name: str = "") -> str:
    """A figure with its interval below it, as `show` writes them."""
    value, _, rest = show(estimate, name).partition(" (")
    return value + (f"<small>{rest.removesuffix(')')}</small>" if rest else "")


def to_paragraph(text: str, style: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{f' class={style}' if style else ''}>{to_html(text)}</p>"
