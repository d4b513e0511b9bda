"""How runs look on a terminal, and as JSON."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from lesion.cli.render import print_line, print_table
from lesion.records import Estimate, to_json
from lesion.tracking.entries import Curve, RunDetail, RunEntry, drop_groups, find_best, find_differences, is_less_better
from lesion.tracking.texts import show_figure, show_parameter, show_seconds

log = logging.getLogger("lesion.cli")
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 32  # of a sparkline, in characters


def print_list(entries: Sequence[RunEntry], as_json: bool) -> None:
    """One line per run."""
    if as_json:
        print(to_json({"runs": [asdict(entry) for entry in entries]}))
        return
    if not entries:
        print_line("no such runs")
        return
    rows = [["run", "tier", "status", "when", "epochs", "val AUROC", "val loss", "test AUROC", "took"]]
    for entry in entries:
        figures = [show_figure(entry.figures.get(name)) for name in ("val_auroc", "val_loss", "test_auroc")]
        when = to_local(entry.started)
        rows.append(
            [entry.name, entry.tier, entry.status, when, str(entry.epochs), *figures, show_seconds(entry.seconds)]
        )
    print_table(rows, texts=4)
    log.info("next: lesion runs show RUN · lesion runs compare RUN RUN --html runs.html · lesion runs best")


def print_detail(detail: RunDetail, as_json: bool) -> None:
    """All of a run."""
    if as_json:
        print(to_json(asdict(detail)))
        return
    entry = detail.entry
    kept = f", the best is epoch {entry.kept_epoch}" if entry.kept_epoch else ""
    print_line(f"{entry.name}: {entry.tier}, {entry.status}, {entry.epochs} epochs{kept}")
    print_line(f"{to_local(entry.started)}, {show_seconds(entry.seconds)}, {to_short(entry.path)}")
    for key, value in detail.facts.items():
        print_line(f"{key}: {value}")
    rows = [["figure", "value", "95 % interval"]]
    for name, figure in sorted(entry.figures.items()):
        rows.append([name, show_figure(figure), _show_interval(detail.intervals.get(name))])
    _print_part(rows)
    rows = [["curve", "", "first", "last", "values"]]
    for name, curve in drop_groups(detail.curves).items():
        ends = [show_figure(curve.values[0]), show_figure(curve.values[-1])]
        rows.append([name, sparkline(curve), *ends, str(len(curve.values))])
    _print_part(rows, texts=2)
    _print_part([["parameter", "value"], *([key, show_parameter(text)] for key, text in detail.parameters.items())], 2)
    files = [[file.path, file.kind, f"{file.bytes:,}", file.sha256[:12]] for file in detail.artifacts]
    _print_part([["file", "kind", "bytes", "sha256"], *files], texts=2)


def print_comparison(details: Sequence[RunDetail], all_parameters: bool, as_json: bool) -> None:
    """Figures, then parameters, one column per run."""
    different = find_differences(details)
    if as_json:
        runs = [{**asdict(detail.entry), "parameters": detail.parameters} for detail in details]
        print(to_json({"runs": runs, "different": different}))
        return
    head = ["", *(detail.entry.name for detail in details)]
    rows = [head]
    for name, of in ABOUT.items():
        rows.append([name, *(of(detail.entry) for detail in details)])
    for name in sorted({name for detail in details for name in detail.entry.figures}):
        rows.append([name, *mark_best(name, [detail.entry.figures.get(name) for detail in details])])
    print_table(rows)
    keys = sorted({key for detail in details for key in detail.parameters}) if all_parameters else list(different)
    rows = [[key, *(show_parameter(detail.parameters.get(key, "")) for detail in details)] for key in keys]
    if rows:
        _print_part([["parameter", *head[1:]], *rows])
    else:
        print()
        print_line("all parameters are the same")
    warn_of_splits([detail.entry for detail in details])


def print_best(entries: Sequence[RunEntry], metric: str, as_json: bool) -> None:
    """The first of the ranked runs, and what to do with it."""
    if as_json:
        print(to_json({"metric": metric, "best": asdict(entries[0]), "of": len(entries)}))
        return
    best = entries[0]
    which = "lowest" if is_less_better(metric) else "highest"
    print_line(
        f"{best.name}: {metric} {show_figure(best.figures[metric])}, the {which} of {len(entries)} finished runs; "
        f"{best.tier}, {to_local(best.started)}"
    )
    if metric.startswith("test_"):
        log.warning("chosen by its test figure, which is thereby too good: choose by a validation figure instead")
    warn_of_splits(entries)
    run = to_short(best.path)
    if not (Path(best.path) / "model.onnx").is_file():
        log.info("%s is not on this machine, or holds no model.onnx: fetch it, or export it again", run)
        return
    log.info("next:")
    for words in ("eval --model {}", "predict IMAGE --model {}", "serve --model {}", "models register {} --name NAME"):
        log.info("  lesion %s", words.format(f'"{run}"' if " " in run else run))


def warn_of_splits(entries: Sequence[RunEntry]) -> None:
    """Say so when figures come from different images."""
    splits = {entry.split for entry in entries}
    if len(splits) > 1:
        log.warning("the runs have %d different splits of the data: their figures do not compare", len(splits))


def mark_best(name: str, values: Sequence[float | None]) -> list[str]:
    """The values as text, the best with a star when there is something to choose."""
    best = find_best(name, values)
    return [f"{'* ' if index in best else ''}{show_figure(value)}" for index, value in enumerate(values)]


def sparkline(curve: Curve, width: int = WIDTH) -> str:
    """The curve in at most `width` characters, each the mean of its share of the values; "·" where there is none."""
    values = curve.values
    count = min(width, len(values))
    shares = [values[len(values) * i // count : len(values) * (i + 1) // count] for i in range(count)]
    means = [sum(known) / len(known) if (known := [v for v in share if v is not None]) else None for share in shares]
    low = min((mean for mean in means if mean is not None), default=0.0)
    span = max((mean for mean in means if mean is not None), default=0.0) - low or 1.0
    return "".join("·" if mean is None else BARS[round((mean - low) / span * (len(BARS) - 1))] for mean in means)


def to_local(time: str) -> str:
    """A recorded time on this machine's clock, to the minute."""
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M}"


def to_short(path: str) -> str:
    """The path from here when it lies below, which is what one would type."""
    here = Path.cwd()
    return os.path.relpath(path) if Path(path).is_relative_to(here) else path


def _show_interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return "–"
    return f"{estimate.low:.3f} to {estimate.high:.3f}"


def _print_part(rows: Sequence[Sequence[str]], texts: int = 1) -> None:
    if len(rows) > 1:
        print()
        print_table(rows, texts)


ABOUT: dict[str, Callable[[RunEntry], str]] = {
    "tier": lambda entry: entry.tier,
    "status": lambda entry: entry.status,
    "when": lambda entry: to_local(entry.started),
    "took": lambda entry: show_seconds(entry.seconds),
    "epochs": lambda entry: str(entry.epochs),
    "kept epoch": lambda entry: str(entry.kept_epoch or "–"),
    "split": lambda entry: entry.split or "–",
}
