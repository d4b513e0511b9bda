"""The style sheet of the page."""

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color), lighter on a dark page.
STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --card: #fff; --ink: #222; --soft: #5f5b55; --line: #e3dfd8;
  --k0: #0072b2; --k1: #c04f00; --k2: #007a59; --k6: #6b6b6b; --mark: #c04f00; --rest: #d9d4cb; --alarm: #c4842a; }
@media (prefers-color-scheme: dark) { :root { --paper: #161513; --card: #211f1c; --ink: #eceae6; --soft: #b0aaa2;
  --line: #383430; --k0: #4fa8e0; --k1: #ff8a4a; --k2: #35c79b; --k6: #b0b0b0; --mark: #ff8a4a; --rest: #3d3934;
  --alarm: #b0803a; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 12px; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 16px 48px; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 44px 0 8px; } h3 { font-size: 1rem; margin: 24px 0 8px; }
p, section > ul { margin: 0 0 12px; max-width: 74ch; overflow-wrap: break-word; }
.soft { color: var(--soft); font-size: .9rem; }
.notice { border: 2px solid var(--mark); border-radius: 10px; background: var(--card); padding: 10px 14px;
  margin: 14px 0 18px; max-width: none; font-weight: 600; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 16px; list-style: none; padding: 0; margin: 12px 0 0;
  font-size: .9rem; }
a { color: var(--k0); } a:focus-visible, [tabindex]:focus-visible, input:focus-visible, summary:focus-visible {
  outline: 3px solid var(--k0); outline-offset: 2px; }
.card, .wide, .tiles li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 188px), 1fr)); gap: 12px; padding: 0;
  margin: 16px 0; max-width: none; list-style: none; }
.tiles li { padding: 12px 14px; font-size: .9rem; line-height: 1.4; }
.tiles b { display: block; font-size: 1.75rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles b small { font-size: .95rem; font-weight: 500; }
.tiles span { display: block; color: var(--soft); margin-top: 4px; font-variant-numeric: tabular-nums; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 12px; }
figure { margin: 0 0 12px; padding: 12px 14px; } .pair figure { margin: 0; }
section > figure { max-width: 580px; } header > figure { max-width: 700px; }
figcaption { font-weight: 600; margin-bottom: 6px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 18px; padding: 0; margin: 8px 0 0;
  font-size: .9rem; color: var(--soft); }
.swatch { display: inline-block; width: 26px; height: 8px; margin-right: 6px; vertical-align: middle; }
.box { display: inline-block; width: .8em; height: .8em; margin-right: 6px; }
.k0 { color: var(--k0); } .k1 { color: var(--k1); } .k2 { color: var(--k2); } .k6 { color: var(--k6); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-size: 12.5px; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .label { font-weight: 700; fill: var(--ink); stroke: var(--card); stroke-width: 4px; paint-order: stroke; }
svg .grid { stroke: var(--line); } svg .bar { fill: var(--rest); }
svg .line { fill: none; stroke: currentColor; stroke-width: 2.2; stroke-linejoin: round; }
svg .thin { stroke-width: 1.3; } svg .dashed { stroke-dasharray: 6 4; } svg .dotted { stroke-dasharray: 2 4; }
svg .band { fill: currentColor; opacity: .16; } svg circle { fill: currentColor; }
svg .mark { fill: var(--mark); stroke: var(--card); stroke-width: 1.5; } svg .reference { stroke: var(--k6);
  stroke-dasharray: 3 3; }
svg.interval { width: 150px; }
.beside { display: flex; flex-wrap: wrap; gap: 0 14px; align-items: center; min-width: 150px; }
.beside small { white-space: nowrap; } .beside .why { white-space: normal; }
.groups table { table-layout: fixed; min-width: 580px; width: 100%; } .groups th:first-child { width: 27%; }
.groups th:nth-child(2) { width: 34%; }
.found { fill: var(--k0); background: var(--k0); } .missed { fill: var(--ink); background: var(--ink); }
.alarm { fill: var(--alarm); background: var(--alarm); } .clear { fill: var(--rest); background: var(--rest); }
.wide { overflow-x: auto; padding: 4px 6px; margin: 0 0 14px; }
table { border-collapse: collapse; font-size: .9rem; min-width: 100%; }
caption { text-align: left; padding: 6px 10px; font-weight: 600; }
th, td { text-align: left; padding: 6px 10px; border-top: 1px solid var(--line); vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; min-width: 7.5rem; }
td { font-variant-numeric: tabular-nums; } th small, td small { display: block; color: var(--soft); font-weight: 400; }
.number, thead .number { text-align: right; } td.number { white-space: nowrap; }
.why { white-space: normal; min-width: 7.5rem; }
.marked > * { background: color-mix(in srgb, var(--mark) 14%, transparent); }
.tally td { font-size: 1.4rem; font-weight: 700; } .tally small { font-size: .85rem; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 230px), 1fr)); gap: 12px; }
.cases figure { margin: 0; padding: 8px; font-size: .9rem; }
.cases img, .blank { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px;
  background: #000; }
.cases .blank { display: grid; place-items: center; color: #ccc; }
.cases figcaption { margin: 8px 2px 2px; font-weight: 400; overflow-wrap: anywhere; }
.cases ul { list-style: none; padding: 0; margin: 4px 0 0; }
.cases .heat, #heat:checked ~ * .photo { display: none; } #heat:checked ~ * .heat { display: grid; }
#heat { width: 1.1rem; height: 1.1rem; vertical-align: -2px; margin: 0 8px 12px 0; }
.scale { display: inline-block; width: 120px; height: .8em; margin: 0 8px; border-radius: 2px;
  background: linear-gradient(90deg, #2166ac, #888, #e66101); }
dl { display: grid; grid-template-columns: fit-content(40%) 1fr; gap: 4px 18px; margin: 0; padding: 12px 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
details { margin: 0 0 14px; } summary { cursor: pointer; padding: 4px 0; }
footer { margin-top: 40px; border-top: 1px solid var(--line); padding-top: 12px; }
@media (max-width: 480px) { svg text { font-size: 15px; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: 8px; } th, td { padding: 6px; } .cases { grid-template-columns: 1fr 1fr; gap: 8px; } }
@media print { .wide { overflow: visible; } figure, tr, .tiles li { break-inside: avoid; } nav { display: none; } }
"""
