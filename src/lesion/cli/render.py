"""How records look on a terminal."""

import logging
import sys
from collections.abc import Sequence
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from lesion.escape import to_terminal
from lesion.exports import ExportReport, QuantizeReport
from lesion.records import (
    NOTICE,
    AuditReport,
    DataReport,
    DownloadReport,
    Estimate,
    ImportReport,
    Prediction,
    ServeReport,
    StatsReport,
    SynthReport,
    TrainPlan,
    TrainReport,
    to_dict,
    to_json,
)

if TYPE_CHECKING:
    from lesion.inference.predictor import Predictor

log = logging.getLogger("lesion.cli")
GAP = 3  # between two columns of a table, in characters


def show(record: Any, as_json: bool) -> None:
    """Print a record to stdout, and to stderr what to do next."""
    if as_json:
        print(to_json(record))
        return
    print_record(record)


def print_line(text: str) -> None:
    """Print `text` as one line of a terminal: names in it may come from strangers' files."""
    print(to_terminal(text))


def show_predictions(predictions: Sequence[Prediction], predictor: "Predictor", as_json: bool) -> None:
    """Print answers, one line each or as one document."""
    if as_json:
        print(to_json({"predictions": [to_dict(prediction) for prediction in predictions]}))
        return
    print_predictions(predictions)
    say_model(predictor)


def print_predictions(predictions: Sequence[Prediction]) -> None:
    """Print answers, one line each."""
    sources = [to_terminal(prediction.source) for prediction in predictions]
    width = max(map(len, sources), default=0)
    for source, prediction in zip(sources, predictions, strict=True):
        refer = f"  {prediction.decision}: {', '.join(prediction.flags)}" if prediction.flags else ""
        print_line(
            f"{source:<{width}}  {prediction.prediction:<9}  {prediction.confidence:.3f}{_top(prediction)}{refer}"
        )


def say_model(predictor: "Predictor") -> None:
    """Say which model answered, and what its answers are not."""
    threshold = predictor.manifest.threshold
    log.info("%s: malignant from a probability of %.3f. %s", predictor.identity, threshold, NOTICE)


def _top(prediction: Prediction, most: int = 3) -> str:
    if prediction.diagnosis_probabilities is None:
        return ""
    ranked = sorted(prediction.diagnosis_probabilities.items(), key=lambda pair: -pair[1])[:most]
    return "  (" + ", ".join(f"{dx} {p:.3f}" for dx, p in ranked) + ")"


@singledispatch
def print_record(record: Any) -> None:
    """Print a record for people; what can be shown is registered here and in `exports`."""
    raise TypeError(f"no way to show {type(record).__name__}")


@print_record.register
def _(record: SynthReport) -> None:
    print_line(f"{record.root}: {record.images} synthetic images of {record.lesions} lesions")
    log.info("next: lesion data prepare data.root=%s", record.root)


@print_record.register
def _(record: ServeReport) -> None:
    log.info("%s listening on %s, POST /predict. %s", record.model, record.url, NOTICE)


@print_record.register
def _(record: DataReport) -> None:
    _print_splits(record)
    log.info("written to %s", record.processed)


def _print_splits(record: DataReport) -> None:
    print_line(f"{record.root}: {record.images} images of {record.lesions} lesions, split {record.fingerprint}")
    columns = sorted({name for counts in record.splits.values() for name in counts} - {"images", "lesions"})
    rows = [["split", "images", "lesions", *columns]]
    for split, counts in record.splits.items():
        rows.append([split, *(str(counts.get(name, 0)) for name in ("images", "lesions", *columns))])
    print_table(rows)


@print_record.register
def _(record: AuditReport) -> None:
    print_line(f"{record.root}: {record.images} images of {record.lesions} lesions, {record.quarantined} in quarantine")
    rows = [["finding", "severity", "count", "first images"]]
    for kind, count in record.counts.items():
        found = [finding for finding in record.findings if finding.kind == kind]
        first = ", ".join(" = ".join(finding.images[:2]) for finding in found[:2]) + (", …" if count > 2 else "")
        rows.append([found[0].title, found[0].severity, str(count), first])
    if record.findings:
        print_table(rows)
    else:
        print_line("nothing was found")


@print_record.register
def _(record: TrainReport) -> None:
    print_line(
        f"{record.model}: {record.tier}, {record.parameters / 1e6:.1f} M parameters, best epoch {record.best_epoch} of "
        f"{record.epochs}, {record.seconds:.0f} s at {record.images_per_second:.0f} images/s"
    )
    print_figures(record.validation)
    log.info("next:")
    for words in ("eval --model {}", "predict IMAGE --model {}", "serve --model {}", "models register {} --name NAME"):
        log.info("  lesion %s", words.format(f'"{record.run}"' if " " in record.run else record.run))


@print_record.register
def _(record: TrainPlan) -> None:
    _print_splits(record.data)
    print_line(f"trained on: {record.training_images} images, fingerprint of all images {record.images_fingerprint}")
    print_line(f"network: {record.tier}, {record.parameters / 1e6:.1f} M parameters")
    for line in record.recipe:
        print_line(line)
    print_line(f"device: {record.device}, precision {record.precision}")
    print_line(f"steps: {record.steps_per_epoch} an epoch, {record.epochs} epochs, {record.steps} in all")
    memory = "" if record.peak_memory is None else f", up to {record.peak_memory / 1e9:.2f} GB of memory"
    print_line(f"time: about {_span(record.seconds_per_epoch)} an epoch, {_span(record.seconds)} in all{memory}")
    print_line(f"run: {record.run}; needs {record.needed / 1e6:.0f} MB, {record.free / 1e9:.1f} GB are free")
    log.info("nothing was trained; `lesion train` without --dry-run does")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


@print_record.register
def _(record: QuantizeReport) -> None:
    rows = [["candidate", "ms", "faster", "MiB", "memory MiB", "AUROC", "loss", "sensitivity", "flips", ""]]
    for each in record.candidates:
        figures = [f"{each.latency_ms:.2f}", f"{each.speedup:.2f}x", f"{each.bytes / 2**20:.1f}"]
        figures.append("–" if each.memory is None else f"{each.memory / 2**20:.0f}")
        scores = [each.validation.get("auroc"), each.auroc_loss.value, each.validation.get("sensitivity")]
        figures += ["–" if score is None else f"{score:.4f}" for score in scores]
        mark = "chosen" if each.name == record.chosen else each.refused or ("front" if each.front else "")
        rows.append([each.name, *figures, "–" if each.flips is None else str(each.flips), mark])
    print_table(rows)
    print_line(record.reason)
    if record.exported is not None:
        log.info("written to %s; next: lesion eval --model %s", record.exported.model, record.exported.model)


@print_record.register
def _(record: ExportReport) -> None:
    print_line(f"{record.model}: {record.name}, {record.bytes / 2**20:.1f} MiB, {record.latency_ms:.1f} ms an image")
    print_parity(record, "the fp32 file" if record.quantized else "torch")
    if record.reference_latency_ms:
        ratio = record.reference_latency_ms / record.latency_ms
        print_line(f"{ratio:.2f} times as fast as the fp32 file" + ("" if ratio > 1 else ": slower on this machine"))
    print_figures(record.validation)
    log.info("next: lesion eval --model %s", record.model)


def print_parity(record: ExportReport, reference: str) -> None:
    """Say how far a file is from its reference."""
    print_line(
        f"against {reference} on {record.parity_images} validation images: largest difference of a probability "
        f"{record.parity_max_difference:.1e}, {record.parity_flips} decisions flipped"
    )


@print_record.register
def _(record: ImportReport) -> None:
    how = "linked" if record.linked else "copied"
    print_line(f"{record.root}: {record.images} images of {record.lesions} lesions, {how} from {record.source}")
    print_table([["diagnosis", "labels", "images"], *_to_import_rows(record)], texts=2)
    for why, names in record.left_out.items():
        print_line(f"left out, {why}: {len(names)} ({_first(names)})")
    if record.renamed:
        print_line(
            f"renamed: {len(record.renamed)} ({_first([f'{old} → {new}' for new, old in record.renamed.items()])})"
        )
    for column, count in record.blanked.items():
        values = _first([repr(value) for value in record.not_understood[column]])
        print_line(f"{column}: {count} values not understood and left empty ({values})")
    log.info("all of it: %s/import.json; next: lesion data prepare data.root=%s", record.root, record.root)


def _to_import_rows(record: ImportReport) -> list[list[str]]:
    rows = []
    for dx, count in record.diagnoses.items():
        labels = sorted(label for label, meant in record.labels.items() if meant == dx)
        rows.append([dx, ", ".join(labels), str(count)])
    return rows


def _first(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


@print_record.register
def _(record: StatsReport) -> None:
    print_line(
        f"{record.root}: {record.images} images of {record.lesions} lesions, {record.malignant} malignant images"
    )
    rows = [["by", "value", "images", "share", "lesions", "malignant"]]
    for name, group in record.groups.items():
        for value, counts in group.items():
            share = f"{counts['images'] / record.images:.1%}"
            figures = (str(counts["images"]), share, str(counts["lesions"]), str(counts["malignant"]))
            rows.append([name, value, *figures])
    print_table(rows, texts=2)
    sizes = ", ".join(f"{size}: {count}" for size, count in record.images_per_lesion.items())
    print_line(f"lesions by number of images: {sizes}")
    print_line(
        "missing: " + (", ".join(f"{name} {count}" for name, count in record.missing.items() if count) or "nothing")
    )
    for path in record.written:
        log.info("written to %s", path)


@print_record.register
def _(record: DownloadReport) -> None:
    if record.finished:
        print_line(f"{record.root}: {record.images} images of {record.dataset} from {record.source}")
        log.info("%.1f MB came in %.0f s; recorded in %s", record.received / 1e6, record.seconds, record.record)
        log.info("next: lesion data prepare data.root=%s", record.root)
        return
    print_line(f"{record.title}: {record.licence}")
    rows = [["file", "MB", "state"]]
    for file in record.files:
        size = "?" if file.bytes is None else f"{file.bytes / 1e6:.1f}"
        rows.append([file.name, size, "there" if file.done else file.url])
    print_table(rows)
    if record.subset:
        print_line(f"and {record.subset} images one by one")
    print_line(f"needs {record.needed / 1e9:.2f} GB in {record.root}, {record.free / 1e9:.2f} GB are free")


def print_figures(figures: dict[str, float | None]) -> None:
    """Print the figures on validation that matter most, in one line."""
    shown = ("auroc", "sensitivity", "specificity", "calibration_error")
    parts = [f"{name.replace('_', ' ')} {figures[name]:.3f}" for name in shown if figures.get(name) is not None]
    print_line("validation: " + ", ".join(parts))


def print_table(rows: Sequence[Sequence[str]], texts: int = 1) -> None:
    """Print rows without lines, the first as head; the first `texts` columns are words, the rest figures."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    head, *body = [[to_terminal(cell) for cell in row] for row in rows]
    table = Table(*head, box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for column in table.columns[texts:]:
        column.justify = "right"
    for row in body:
        table.add_row(*row)
    # In a pipe there is no width to respect: a reader's `grep` must meet neither wrapped nor cut cells.
    whole = sum(max(map(cell_len, column)) + GAP for column in zip(head, *body, strict=True))
    # No markup: a cell can hold what a stranger wrote into a dataset.
    Console(width=None if sys.stdout.isatty() else whole, markup=False, emoji=False).print(table)


def write_estimate(estimate: Estimate, sign: str = "") -> tuple[str, str]:
    """Its value and its interval, "–" for what it lacks."""
    value = "–" if estimate.value is None else f"{estimate.value:{sign}.3f}"
    return value, "–" if estimate.low is None else f"{estimate.low:{sign}.3f} to {estimate.high:{sign}.3f}"
