"""How a checked, a measured and a joined model file look on a terminal."""

from lesion.cli.render import (
    log,
    print_figures,
    print_line,
    print_parity,
    print_record,
    print_table,
    show,
    write_estimate,
)
from lesion.exports import BenchmarkReport, EnsembleReport, VerifyReport

__all__ = ["show"]


@print_record.register
def _(record: VerifyReport) -> None:
    facts, sets = record.provenance, {name or "onnx": version for name, version in record.operators.items()}
    print_line(f"{record.model}: {record.name}, {record.bytes / 2**20:.1f} MiB, intact")
    rows = [
        ("sha256", record.sha256),
        ("signature", record.signature),
        ("format", f"{record.format}, ONNX {record.onnx}, " + ", ".join(f"{each} {sets[each]}" for each in sets)),
        (
            "self-test",
            f"differs by {record.self_test_difference:.1e}, at most {record.self_test_tolerance:.0e} expected",
        ),
        ("input", f"{record.size} px, {record.quantization or 'fp32'}"),
        ("answers", f"{', '.join(record.labels)}; malignant: {', '.join(record.malignant)}"),
        ("malignant from", f"{record.threshold:.4f}, temperature {record.temperature:.3f}"),
        *((name, str(facts[name])) for name in ("lesion", "exported", "run", "data", "split") if name in facts),
    ]
    for name, value in rows:
        print_line(f"  {name:<14} {value}")


@print_record.register
def _(record: BenchmarkReport) -> None:
    print_line(f"{record.model}: {record.name}, {record.size} px")
    versions = ", ".join(f"{name} {each}" for name, each in record.versions.items())
    print_line(f"{record.cores} cores of {record.processor} ({record.instructions}), {versions}")
    batches = list(record.figures[0].images_per_second)
    rows = [["", "a file, ms", "p99", "pixels, ms", "p99", *(f"×{each}, 1/s" for each in batches), "load, ms", "MiB"]]
    for each in record.figures:
        rates = [f"{each.images_per_second[batch]:.0f}" for batch in batches]
        times = [f"{value:.2f}" for pair in (each.file_ms, each.pixels_ms) for value in (pair["p50"], pair["p99"])]
        memory = "–" if each.memory is None else f"{each.memory / 2**20:.0f}"
        rows.append([each.engine, *times, *rates, f"{each.load_ms:.0f}", memory])
    print_table(rows)


@print_record.register
def _(record: EnsembleReport) -> None:
    rows = [["member", "AUROC", "95 % interval", "ms", "MiB"]]
    parts = [(each.run, each.auroc, each.latency_ms, each.bytes) for each in record.members]
    for name, auroc, latency, size in [*parts, ("ensemble", record.auroc, record.exported.latency_ms,
                                                record.exported.bytes)]:  # fmt: skip
        rows.append([name, *write_estimate(auroc), f"{latency:.1f}", f"{size / 2**20:.1f}"])
    print_table(rows)
    gain, interval = write_estimate(record.gain, "+")
    print_line(f"gain over {record.best}: AUROC {gain} ({interval}) on validation, the same images and resamples")
    print_line(f"cost: {record.slowdown:.2f} times its time, {record.growth:.2f} times its size")
    print_parity(record.exported, "their mean")
    print_figures(record.exported.validation)
    log.info("written to %s; next: lesion eval --model %s", record.exported.model, record.exported.model)
