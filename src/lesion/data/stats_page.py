"""The statistics of a dataset as one HTML page that needs nothing else."""

import base64
from collections.abc import Mapping

from lesion.escape import to_html
from lesion.page import render_shell
from lesion.records import NOTICE, StatsReport
from lesion.taxonomy import DIAGNOSES

TITLES = {
    "diagnosis": "Diagnosis",
    "malignancy": "Malignancy",
    "age": "Age",
    "sex": "Sex",
    "site": "Site",
    "confirmation": "How the diagnosis was confirmed",
    "split": "Split",
}
MOST = 24  # bars of a chart; a column of free text would have thousands
STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --card: #fff; --ink: #222; --soft: #66625c; --line: #e3dfd8;
  --benign: #5b8fb9; --malignant: #c4553b; }
@media (prefers-color-scheme: dark) { :root { --paper: #161513; --card: #211f1c; --ink: #eceae6; --soft: #a8a29a;
  --line: #383430; --benign: #6fa3cc; --malignant: #dd7359; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 16px 48px; background: var(--paper); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 10px; }
p { margin: 0 0 12px; }
.soft { color: var(--soft); font-size: .9rem; }
.facts { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 16px 0 12px; padding: 0; list-style: none; }
.facts b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; line-height: 1.2; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .35em 0 0; }
.charts { columns: 2 420px; column-gap: 16px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; }
.charts section { break-inside: avoid; margin-bottom: 16px; }
.chart { display: grid; grid-template-columns: fit-content(42%) 1fr max-content; gap: 6px 10px; align-items: center;
  font-size: .9rem; margin: 0; }
.chart dt { overflow-wrap: break-word; min-width: 4rem; }
.chart dd { margin: 0; }
.chart dd + dd { text-align: right; font-variant-numeric: tabular-nums; }
.chart svg { display: block; width: 100%; height: 14px; }
.sheet { overflow-x: auto; }
.sheet img { display: block; width: 100%; min-width: 640px; border-radius: 6px; }
.wide { margin: 16px 0 0; }
.whole { white-space: nowrap; }
"""


def draw_page(report: StatsReport, sheet: bytes) -> str:
    """The page: charts as inline SVG, the contact sheet (JPEG bytes) embedded; it loads nothing and runs no script."""
    parts = [_draw_head(report), '<div class="charts">']
    parts += [_draw_chart(TITLES.get(name, name), group, name) for name, group in report.groups.items()]
    parts += [_draw_plain("Lesions by number of images", report.images_per_lesion, "lesions")]
    missing = {name: count for name, count in report.missing.items() if count} or {"nothing": 0}
    parts += [_draw_plain("Values that are missing", missing, "images"), "</div>"]
    picture = base64.b64encode(sheet).decode("ascii")
    parts.append(
        '<section class="wide"><h2>A few images of each diagnosis</h2><div class="sheet" tabindex="0">'
        f'<img alt="A few images of each diagnosis" src="data:image/jpeg;base64,{picture}"></div></section>'
        f'<p class="soft wide">The images keep the licence of their dataset. {to_html(NOTICE)}</p>'
    )
    return render_shell(f"Dataset {report.root}", STYLE, "\n".join(parts))


def _draw_head(report: StatsReport) -> str:
    share = report.malignant / report.images if report.images else 0
    facts = ((report.images, "images"), (report.lesions, "lesions"), (report.malignant, f"malignant ({share:.1%})"))
    items = "".join(f"<li><b>{count:,}</b>{word}</li>" for count, word in facts)
    return (
        f'<h1>{to_html(report.root)}</h1><ul class="facts">{items}</ul><p class="soft">Bars count images: '
        '<span class="whole"><span class="key" style="background: var(--benign)"></span>benign or unknown,</span> '
        '<span class="whole"><span class="key" style="background: var(--malignant)"></span>malignant.</span></p>'
    )


def _draw_chart(title: str, group: Mapping[str, Mapping[str, int]], name: str) -> str:
    shown = dict(list(group.items())[:MOST])
    most = max((counts["images"] for counts in group.values()), default=1)
    lines = [
        _draw_bar(_name(value, name), counts["images"], counts["malignant"], most, f"{counts['lesions']:,} lesions")
        for value, counts in shown.items()
    ]
    rest = len(group) - len(shown)
    more = f'<p class="soft wide">and {rest} more values</p>' if rest else ""
    return f'<section><h2>{to_html(title)}</h2><dl class="chart">{"".join(lines)}</dl>{more}</section>'


def _draw_plain(title: str, counts: Mapping[str, int], noun: str) -> str:
    most = max(counts.values(), default=0) or 1
    lines = [_draw_bar(value, count, 0, most, noun) for value, count in counts.items()]
    return f'<section><h2>{to_html(title)}</h2><dl class="chart">{"".join(lines)}</dl></section>'


def _draw_bar(label: str, images: int, malignant: int, most: int, note: str) -> str:
    """Label, bar and number. The text is HTML, not SVG: it keeps its size when a phone makes the bar narrow."""
    whole, bad = 1000 * images / most, 1000 * malignant / most
    told = f"{label}: {images:,}, {malignant:,} malignant, {note}" if malignant else f"{label}: {images:,}, {note}"
    return (
        f"<dt>{to_html(label)}</dt><dd>"
        f'<svg viewBox="0 0 1000 14" preserveAspectRatio="none" role="img"><title>{to_html(told)}</title>'
        '<rect width="1000" height="14" fill="var(--line)" opacity=".45"/>'
        f'<rect width="{whole:.1f}" height="14" fill="var(--benign)"/>'
        f'<rect width="{bad:.1f}" height="14" fill="var(--malignant)"/></svg></dd><dd>{images:,}</dd>'
    )


def _name(value: str, group: str) -> str:
    return f"{value} · {DIAGNOSES[value]}" if group == "diagnosis" and value in DIAGNOSES else value
