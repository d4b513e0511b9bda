"""A comparison of runs as one HTML file: figures first, then curves, parameters, origins and files."""

from collections.abc import Sequence
from datetime import datetime
from string import ascii_uppercase

from lesion.escape import to_html
from lesion.page import render_shell
from lesion.records import NOTICE
from lesion.tracking.chart import COLOURS, Line, draw_chart
from lesion.tracking.entries import Curve, RunDetail, drop_groups, find_best, find_differences, is_per_step, is_quality
from lesion.tracking.texts import show_figure, show_parameter, show_seconds

# Drawn first and in this order: title → the beginnings of the metrics' names.
CHARTS = {
    "Training loss": ("train_loss",),
    "Validation loss": ("val_loss",),
    "Validation AUROC": ("val_auroc",),
    "Learning rate": ("lr",),
    "Images per second": ("images_per_second",),
}
COLUMNS = {"val AUROC": "val_auroc", "val loss": "val_loss", "test AUROC": "test_auroc"}
WORDS = {
    "val": "validation", "auroc": "AUROC", "f1": "F1", "cpu": "CPU", "gpu": "GPU", "mb": "MB", "gb": "GB",
}  # fmt: skip
# Okabe and Ito's colours (https://jfly.uni-koeln.de/color), lighter on a dark page; grey for their black and yellow.
STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --card: #fff; --ink: #222; --soft: #66625c; --line: #e3dfd8;
  --k0: #0072b2; --k1: #d55e00; --k2: #009e73; --k3: #b8568c; --k4: #b87a00; --k5: #3a9bd0; --k6: #6b6b6b; }
@media (prefers-color-scheme: dark) { :root { --paper: #161513; --card: #211f1c; --ink: #eceae6; --soft: #a8a29a;
  --line: #383430; --k0: #4fa8e0; --k1: #ff8a4a; --k2: #35c79b; --k3: #e59ac6; --k4: #f0b440; --k5: #9ad7f5;
  --k6: #b0b0b0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px 16px 48px; background: var(--paper); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 4px; }
h2 { font-size: 1.15rem; margin: 32px 0 10px; }
h3 { font-size: .95rem; margin: 0 0 6px; }
p { margin: 0 0 12px; } .soft { color: var(--soft); font-size: .9rem; }
.warning { border-left: 4px solid var(--k1); padding: 6px 12px; background: var(--card); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.wide { overflow-x: auto; padding: 4px 6px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); gap: 12px; }
.k0 { color: var(--k0); } .k1 { color: var(--k1); } .k2 { color: var(--k2); } .k3 { color: var(--k3); }
.k4 { color: var(--k4); } .k5 { color: var(--k5); } .k6 { color: var(--k6); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-size: 12.5px; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .label { font-weight: 700; font-size: 14px; fill: currentColor; stroke: var(--card); stroke-width: 4px;
  paint-order: stroke; }
@media (max-width: 480px) { svg text { font-size: 15px; } svg .label { font-size: 17px; } }
svg .grid { stroke: var(--line); }
svg .line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
svg .faint { opacity: .35; stroke-width: 1; } svg .dashed { stroke-dasharray: 6 4; } svg circle { fill: currentColor; }
table { border-collapse: collapse; font-size: .9rem; min-width: 100%; }
th, td { text-align: left; padding: 5px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; } tbody th { font-weight: 500; }
.number, thead .number { text-align: right; white-space: nowrap; } .best { font-weight: 700; }
.key { font-weight: 700; } .whole { white-space: nowrap; }
.long { overflow-wrap: anywhere; min-width: 9rem; }
code { font: .82rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; color: var(--soft); }
footer { margin-top: 32px; }
"""


def render_page(details: Sequence[RunDetail], all_parameters: bool = False) -> str:
    """The page; every name and value is escaped, nothing is loaded from anywhere, and no script runs.

    Args:
        details: the runs, each of which gets a letter and a colour.
        all_parameters: also those that are the same in all runs.
    """
    count = f"{len(details)} run{'s' * (len(details) != 1)}"
    splits = {detail.entry.split for detail in details}
    warning = (
        f'<p class="warning">The runs have {len(splits)} different splits of the data: figures do not compare.</p>'
        if len(splits) > 1
        else ""
    )
    parts = [
        f"<h1>{count} compared</h1>" if len(details) > 1 else f"<h1>{to_html(details[0].entry.name)}</h1>",
        f'<p class="soft">{datetime.now().astimezone():%Y-%m-%d %H:%M}. Validation figures are those of the epoch that '
        "was kept, the one with the lowest validation loss, or of the exported model.</p>",
        warning,
        _draw_summary(details),
        _draw_curves(details),
        _draw_figures(details),
        _draw_parameters(details, all_parameters),
        _draw_origins(details),
        _draw_files(details),
        f'<footer class="soft">{to_html(NOTICE)}</footer>',
    ]
    return render_shell(f"{count} of lesion", STYLE, "\n".join(parts))


def to_title(name: str) -> str:
    """A heading: "Validation accuracy" for val_accuracy or val_accuracy_step."""
    text = " ".join(WORDS.get(word, word) for word in name.removesuffix("_step").split("_"))
    return text[:1].upper() + text[1:]


def to_letter(index: int) -> str:
    """A … Z, then A1 … Z1 and so on."""
    return ascii_uppercase[index % 26] + (str(index // 26) if index >= 26 else "")


def _draw_summary(details: Sequence[RunDetail]) -> str:
    head = ["", "run", *(f"#{name}" for name in COLUMNS), "tier", "status", "started", "#epochs", "#took"]
    best = {name: find_best(name, [detail.entry.figures.get(name) for detail in details]) for name in COLUMNS.values()}
    rows = []
    for index, detail in enumerate(details):
        entry = detail.entry
        cells = [_draw_key(index), f'<th class="long">{to_html(entry.name)}</th>']
        cells += [_draw_number(entry.figures.get(name), index in best[name]) for name in COLUMNS.values()]
        cells += [f"<td>{to_html(text)}</td>" for text in (entry.tier, entry.status)]
        cells.append(f'<td class="whole">{datetime.fromisoformat(entry.started).astimezone():%Y-%m-%d %H:%M}</td>')
        cells += [f'<td class="number">{entry.epochs}</td>', f'<td class="number">{show_seconds(entry.seconds)}</td>']
        rows.append("".join(cells))
    return _draw_table(head, rows)


def _draw_figures(details: Sequence[RunDetail]) -> str:
    names = sorted({name for detail in details for name in detail.entry.figures} - set(COLUMNS.values()))
    names = sorted(names, key=lambda name: not is_quality(name))
    rows = []
    for name in names:
        values = [detail.entry.figures.get(name) for detail in details]
        best = find_best(name, values)
        cells = [_draw_number(value, index in best) for index, value in enumerate(values)]
        rows.append(f'<th class="long">{to_html(name)}</th>{"".join(cells)}')
    return _draw_part("More figures", _head("", details, number=True), rows)


def _draw_curves(details: Sequence[RunDetail]) -> str:
    names = sorted(
        {name for detail in details for name in detail.curves}, key=lambda name: (not is_quality(name), name)
    )
    charts: dict[str, list[str]] = {title: [] for title in CHARTS}
    for name in names:
        title = next((title for title, starts in CHARTS.items() if _belongs(name, starts)), to_title(name))
        charts.setdefault(title, []).append(name)
    drawn = []
    for title, members in charts.items():
        lines = [line for index, detail in enumerate(details) for line in _to_lines(detail, index, members)]
        if chart := draw_chart(title, lines):
            drawn.append(f'<div class="card"><h3>{to_html(title)}</h3>{chart}</div>')
    return f'<h2>Curves</h2><div class="charts">{"".join(drawn)}</div>' if drawn else ""


def _to_lines(detail: RunDetail, index: int, names: Sequence[str]) -> list[Line]:
    """A run's curves of these metrics: the first with its letter, steps faint behind the epochs' means."""
    own = sorted((name for name in names if name in drop_groups(detail.curves)), key=is_per_step)
    return [
        Line("" if i else to_letter(index), index, to_points(detail.curves[name]), faint=bool(i) and is_per_step(name))
        for i, name in enumerate(own)
    ]


def to_points(curve: Curve) -> list[tuple[float, float | None]]:
    """The curve over epochs: the last value of an epoch at its end, those before it evenly within it."""
    sizes: dict[int, int] = {}
    for epoch in curve.epochs:
        sizes[epoch] = sizes.get(epoch, 0) + 1
    seen: dict[int, int] = {}
    points = []
    for epoch, value in zip(curve.epochs, curve.values, strict=True):
        seen[epoch] = seen.get(epoch, 0) + 1
        points.append((epoch + seen[epoch] / sizes[epoch], value))
    return points


def _draw_parameters(details: Sequence[RunDetail], everything: bool) -> str:
    different = find_differences(details)
    keys = sorted({key for detail in details for key in detail.parameters}) if everything else list(different)
    if not keys:
        return '<h2>Parameters</h2><p class="soft">All are the same.</p>' if len(details) > 1 else ""
    rows = []
    for key in keys:
        cells = [f'<td class="long">{to_html(show_parameter(d.parameters.get(key, "")))}</td>' for d in details]
        rows.append(f'<th class="long">{to_html(key)}</th>{"".join(cells)}')
    return _draw_part("Parameters" if everything else "Parameters that differ", _head("", details), rows)


def _draw_origins(details: Sequence[RunDetail]) -> str:
    rows = []
    for key in sorted({key for detail in details for key in detail.facts}):
        cells = [f'<td class="long">{to_html(detail.facts.get(key, "–"))}</td>' for detail in details]
        rows.append(f"<th>{to_html(key)}</th>{''.join(cells)}")
    return _draw_part("Where they come from", _head("", details), rows)


def _draw_files(details: Sequence[RunDetail]) -> str:
    rows = [
        f'{_draw_key(index)}<th class="long">{to_html(file.path)}</th><td>{to_html(file.kind)}</td>'
        f'<td class="number">{file.bytes:,}</td><td class="long"><code>{to_html(file.sha256)}</code></td>'
        for index, detail in enumerate(details)
        for file in detail.artifacts
    ]
    return _draw_part("Files", ["", "file", "kind", "#bytes", "SHA-256"], rows)


def _belongs(name: str, starts: Sequence[str]) -> bool:
    return any(name.removesuffix("_step") == start or name.startswith(f"{start}-") for start in starts)


def _head(first: str, details: Sequence[RunDetail], number: bool = False) -> list[str]:
    return [first, *(f"{'#' * number}@{index}" for index in range(len(details)))]


def _draw_part(title: str, head: Sequence[str], rows: Sequence[str]) -> str:
    return f"<h2>{title}</h2>{_draw_table(head, rows)}" if rows else ""


def _draw_table(head: Sequence[str], rows: Sequence[str]) -> str:
    """A table; in `head`, "#" marks a column of numbers and "@3" the run with that index."""
    cells = ""
    for text in head:
        plain = text.removeprefix("#")
        style = "number" if text != plain else ""
        if plain.startswith("@"):
            style, plain = f"{style} key k{int(plain[1:]) % COLOURS}".strip(), to_letter(int(plain[1:]))
        cells += f'<th class="{style}">{to_html(plain)}</th>' if style else f"<th>{to_html(plain)}</th>"
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="card wide" tabindex="0"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _draw_key(index: int) -> str:
    return f'<td class="key k{index % COLOURS}">{to_letter(index)}</td>'


def _draw_number(value: float | None, best: bool) -> str:
    return f'<td class="number{" best" if best else ""}">{show_figure(value)}</td>'
