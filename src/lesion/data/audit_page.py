"""An audit as one HTML file that needs nothing else: counts first, then each kind of finding with its pictures."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from lesion.data.pixels import read_photo
from lesion.errors import LesionError
from lesion.escape import to_html
from lesion.page import render_shell
from lesion.records import NOTICE, AuditReport, Finding

MOST_SHOWN = 100  # findings of one kind with pictures; 100 pairs are about 1.5 MB
MOST_LISTED = 500  # findings of one kind altogether
MOST_PICTURES = 6  # of one finding
PICTURE = (220, 165)  # pixels, at most
WORDS = {"error": "must not be trained on", "warning": "worth a look", "note": "for information"}
STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5d6670; --line: #d9dee3; --page: #f6f7f9; --card: #fff;
  --error: #b3261e; --warning: #8a5a00; --note: #38618c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a2abb5; --line: #363c43; --page: #15181b;
  --card: #1e2226; --error: #ff8a80; --warning: #f2bd5c; --note: #8fbdf0; } }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 40px 0 4px; }
p { margin: 0 0 12px; } .soft { color: var(--soft); overflow-wrap: anywhere; }
.counts { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin: 20px 0; }
.counts div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.counts b { display: block; font-size: 26px; line-height: 1.2; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; background: var(--card); border: 1px solid var(--line); }
th, td { text-align: left; padding: 6px 12px; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.error { color: var(--error); } .warning { color: var(--warning); } .note { color: var(--note); }
a { color: inherit; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 12px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px; }
figure .pictures { display: grid; grid-template-columns: 1fr 1fr; gap: 6px; }
figure .one { grid-template-columns: minmax(0, 220px); }
figure img, .missing { width: 100%; aspect-ratio: 4 / 3; object-fit: contain; background: #000; border-radius: 4px;
  display: block; }
.missing { display: grid; place-items: center; color: #bbb; font-size: 13px; }
figure small { display: block; color: var(--soft); overflow-wrap: anywhere; }
figcaption { padding: 6px 2px 2px; overflow-wrap: anywhere; }
details { margin-top: 12px; } ul { margin: 8px 0; padding-left: 20px; overflow-wrap: anywhere; }
footer { margin-top: 48px; color: var(--soft); }
"""


def render_page(report: AuditReport, paths: Mapping[str, Path]) -> str:
    """The page for a report; `paths` says where each of its images lies.

    Every name and message is escaped, pictures are shrunk into the page, and nothing is loaded from anywhere. At most
    100 findings of a kind are shown with pictures and 500 listed; the page says how many it leaves out.
    """
    by_kind = {kind: [f for f in report.findings if f.kind == kind] for kind in report.counts}
    sections = [_render_kind(kind, findings, paths) for kind, findings in by_kind.items()]
    body = "\n".join([_render_head(report), _render_table(by_kind), *sections])
    main = f"<main>\n{body}\n<footer>{to_html(NOTICE)}</footer>\n</main>"
    return render_shell(f"Audit of {report.root}", STYLE, main)


def _render_head(report: AuditReport) -> str:
    numbers = {"images": report.images, "lesions": report.lesions, "in quarantine": report.quarantined}
    cards = [f"<div><b>{number:,}</b>{label}</div>" for label, number in numbers.items()]
    for severity in WORDS:
        number = sum(finding.severity == severity for finding in report.findings)
        colour = severity if number else "soft"
        cards.append(f'<div class="{colour}"><b>{number:,}</b>{severity}{"s" * (number != 1)}</div>')
    return (
        f'<h1>Audit of a dataset</h1>\n<p class="soft">{to_html(report.root)}</p>\n'
        f'<div class="counts">{"".join(cards)}</div>'
    )


def _render_table(by_kind: Mapping[str, Sequence[Finding]]) -> str:
    if not by_kind:
        return "<p>Nothing was found.</p>"
    rows = [
        f'<tr><td><a href="#{kind}">{to_html(findings[0].title)}</a></td><td class="{findings[0].severity}">'
        f'{findings[0].severity}</td><td class="number">{len(findings):,}</td></tr>'
        for kind, findings in by_kind.items()
    ]
    head = '<tr><th>finding</th><th>severity</th><th class="number">count</th></tr>'
    return f"<table>{head}{''.join(rows)}</table>"


def _render_kind(kind: str, findings: Sequence[Finding], paths: Mapping[str, Path]) -> str:
    severity, title = findings[0].severity, findings[0].title
    shown, rest = findings[:MOST_SHOWN], findings[MOST_SHOWN:MOST_LISTED]
    left = len(findings) - len(shown) - len(rest)
    parts = [
        f'<section id="{kind}"><h2>{to_html(title[0].upper() + title[1:])}</h2>',
        f'<p class="soft"><span class="{severity}">{severity}</span>: {WORDS[severity]}. '
        f"{len(findings):,} found{f', the first {len(shown)} with pictures' if rest else ''}.</p>",
        f'<div class="cards">{"".join(_render_card(finding, paths) for finding in shown)}</div>',
    ]
    if rest:
        items = "".join(f"<li>{to_html(', '.join(f.images))}: {to_html(f.message)}</li>" for f in rest)
        more = f"<li>and {left:,} more, which this page leaves out</li>" if left else ""
        parts.append(f"<details><summary>{len(rest):,} more</summary><ul>{items}{more}</ul></details>")
    return "\n".join([*parts, "</section>"])


def _render_card(finding: Finding, paths: Mapping[str, Path]) -> str:
    names = finding.images[:MOST_PICTURES]
    pictures = "".join(
        f"<div>{_render_picture(name, paths.get(name, Path()))}<small>{to_html(name)}</small></div>" for name in names
    )
    more = f" (and {len(finding.images) - len(names)} more images)" if len(finding.images) > len(names) else ""
    similarity = "" if finding.similarity is None else f", similarity {finding.similarity:.2f}"
    one = " one" if len(names) == 1 else ""
    caption = f"{to_html(finding.message)}{similarity}{more}"
    return f'<figure><div class="pictures{one}">{pictures}</div><figcaption>{caption}</figcaption></figure>'


def _render_picture(name: str, path: Path) -> str:
    if not path.is_file():
        return '<div class="missing">no file</div>'
    try:
        image = read_photo(path)
    except LesionError:
        return '<div class="missing">no picture</div>'
    image.thumbnail(PICTURE)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=70)
    data = base64.b64encode(out.getvalue()).decode()
    return f'<img alt="{to_html(name)}" loading="lazy" src="data:image/jpeg;base64,{data}">'
