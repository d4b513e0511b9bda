"""Which quantized twin of a run's model file is worth shipping, if any: all are measured, the best one is kept."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from lesion.artifact import Artifact
from lesion.config.load import load_config
from lesion.config.schema import Config, ExportConfig
from lesion.data.split import open_dataset
from lesion.engine.export import make_artifact, save
from lesion.engine.parity import Parity, compare, measure_latency, run_batches
from lesion.engine.quantization.memory import measure_memory
from lesion.engine.quantization.recipe import Recipe, choose_recipes
from lesion.engine.quantization.rewrite import quantize_graph
from lesion.engine.validation import Validation, sample_training
from lesion.errors import DataError, brief
from lesion.exports import Candidate, QuantizeReport
from lesion.files import write_atomic
from lesion.inference.decide import to_malignant, to_probabilities
from lesion.inference.predictor import Predictor
from lesion.machine import find_instructions, name_processor
from lesion.manifest import Manifest
from lesion.metrics import estimate_auroc_loss
from lesion.progress import Progress, Silent, track
from lesion.records import Estimate, to_json
from lesion.run import Run

log = logging.getLogger(__name__)
FP32 = "fp32"
SLOWER = "not faster on this machine"
HOPELESS = 0.95  # times as fast as fp32: below, no luck of the measurement makes it faster
ALIKE = 0.95  # of the fastest's speed: repeated timings of one file differ by as much
UNKNOWN = Estimate(None, None, None)
ENOUGH = 100  # malignant images; with fewer, a few swapped pairs exceed any limit on AUROC
ROUNDS = 6  # of each latency: on a shared machine most of them are disturbed
LEAST = 8  # images that ranges can be seen on


def quantize_run(run: Run, progress: Progress | None = None) -> QuantizeReport:
    """Try every recipe on the run's model.onnx; write the best admissible one to model.int8.onnx.

    Admissible is what is faster on this machine and loses at most `export.max_auroc_loss` and
    `export.max_sensitivity_loss` on validation, temperature and operating point being fitted anew. Without one, fp32
    is kept, and an older model.int8.onnx removed. All that was measured is in quantization.json.
    """
    show = progress or Silent()
    config = load_config([run.config])
    source = Artifact.read(run.model)
    dataset = open_dataset(config.data, show)
    dataset.require_split(source.manifest.provenance.get("split"), run.model)
    calibration = sample_training(dataset, config, config.export.calibration_images, show)
    if len(calibration) < LEAST:
        raise DataError(
            f"{len(calibration)} training images to measure ranges on, at least {LEAST} expected",
            hint="add images, or keep the fp32 file",
        )
    bench = Bench(source, config, Validation.of(dataset, config, show))
    tried: dict[str, tuple[Candidate, Artifact, Parity | None]] = {}
    instructions = find_instructions()
    machine = {"processor": name_processor(), "instructions": instructions}
    recipes = choose_recipes(instructions)
    for recipe in track(show, recipes, len(recipes), "quantize"):
        facts = {
            "recipe": recipe.name,
            "calibration_images": len(calibration),
            "source": source.digest,
            "measured_on": machine,
        }
        try:
            graph = quantize_graph(source.graph, calibration, recipe)
            tried[recipe.name] = bench.judge(recipe, graph, facts)
        except Exception as error:  # what this onnxruntime cannot do is no reason to give up the rest
            log.warning("%s: %s", recipe.name, brief(error))
    candidates = mark_front([bench.reference, *(candidate for candidate, _, _ in tried.values())])
    best = choose([candidate for candidate in candidates if candidate.name in tried and candidate.refused is None])
    exported = None
    if best is None:
        run.quantized.unlink(missing_ok=True)
    else:
        _, artifact, parity = tried[best.name]
        assert parity is not None
        measured = {"latency_ms": best.latency_ms, "speedup": best.speedup, "auroc_loss": best.auroc_loss.value}
        facts = {**artifact.manifest.provenance["quantization"], **measured}
        artifact = replace(artifact, manifest=artifact.with_provenance(quantization=facts))
        exported = save(artifact, run.quantized, parity, bench.reference.latency_ms)
    report = QuantizeReport(
        str(run.model), best.name if best else FP32, _explain(best, candidates), candidates, exported
    )
    write_atomic(run.quantization, to_json(report))
    return report


class Bench:
    """The fp32 file, and what every candidate is measured against."""

    def __init__(self, source: Artifact, config: Config, validation: Validation) -> None:
        self.source, self.config, self.validation = source, config, validation
        predictor = Predictor(source)
        self.logits = run_batches(predictor, validation.pixels).logits
        self.malignant = _malignant(source.manifest, self.logits)
        del predictor  # threads of two sessions that wait for work slow each other down
        latency = min(measure_latency(Predictor(source)) for _ in range(ROUNDS))
        figures = source.manifest.provenance["validation"]
        none = estimate_auroc_loss(self.malignant, self.malignant, validation.malignant, validation.lesions)
        self.reference = Candidate(
            FP32, len(source.graph), latency, 1.0, measure_memory(source), none, figures, 0.0, 0, False, None
        )

    def judge(self, recipe: Recipe, graph: bytes, facts: dict[str, Any]) -> tuple[Candidate, Artifact, Parity | None]:
        """Measure the quantized `graph`, calibrated anew; its answers only when it is not clearly slower."""
        draft = Artifact.pack(graph, self.source.manifest)[0]
        latency, speedup = race(draft, self.source)
        slow = Candidate(recipe.name, len(graph), latency, speedup, None, UNKNOWN, {}, None, None, False, SLOWER)
        if speedup < HOPELESS:
            return slow, draft, None
        kept = {
            key: value
            for key, value in self.source.manifest.provenance.items()
            if key not in ("parity", "validation", "quantization")
        }
        answers = run_batches(Predictor(draft), self.validation.pixels)
        provenance = {**kept, "quantization": facts}
        artifact = make_artifact(graph, draft.manifest.name, self.config, self.validation, provenance, answers)
        parity = compare(artifact, self.logits, self.validation, answers.logits)
        malignant = _malignant(artifact.manifest, answers.logits)
        truth, lesions = self.validation.malignant, self.validation.lesions
        loss = estimate_auroc_loss(self.malignant, malignant, truth, lesions)
        figures = artifact.manifest.provenance["validation"]
        candidate = replace(
            slow,
            memory=measure_memory(artifact),  # not of the draft, whose self-test is that of another file
            auroc_loss=loss,
            validation=figures,
            max_difference=parity.max_difference,
            flips=parity.flips,
        )
        refused = refuse(candidate, self.reference, self.config.export, int(truth.sum()))
        return replace(candidate, refused=refused), artifact, parity


def race(artifact: Artifact, reference: Artifact) -> tuple[float, float]:
    """Milliseconds of `artifact` for one image, and how many times faster than `reference` that is.

    In turn, one session at a time, since threads of two that wait for work slow each other down; the fastest of the
    rounds counts, since what else a machine does can only slow one down.
    """
    times = [[measure_latency(Predictor(each)) for each in (artifact, reference)] for _ in range(ROUNDS)]
    ours, theirs = map(min, zip(*times, strict=True))
    return ours, theirs / ours


def refuse(candidate: Candidate, reference: Candidate, limits: ExportConfig, malignant: int) -> str | None:
    """Why a candidate must not replace `reference`; None when it may.

    On few malignant images a loss of AUROC counts only when its 95 % interval excludes none.
    """
    loss, low = candidate.auroc_loss.value, candidate.auroc_loss.low
    if loss is not None and loss > limits.max_auroc_loss and (malignant >= ENOUGH or (low is not None and low > 0)):
        return f"AUROC lower by {loss:.4f}, at most {limits.max_auroc_loss} allowed"
    before, after = (each.validation.get("sensitivity") or 0.0 for each in (reference, candidate))
    if before - after > limits.max_sensitivity_loss:
        return f"sensitivity lower by {before - after:.3f}, at most {limits.max_sensitivity_loss} allowed"
    return SLOWER if candidate.speedup <= 1 else None


def choose(admitted: list[Candidate]) -> Candidate | None:
    """The smallest, then the most accurate, of those that are as fast as the fastest within what timings differ by."""
    fastest = max((each.speedup for each in admitted), default=0.0)
    alike = [each for each in admitted if each.speedup >= ALIKE * fastest]
    # In steps of 0.1 MB: less is no difference.
    return min(alike, key=lambda each: (round(each.bytes, -5), each.auroc_loss.value or 0.0), default=None)


def mark_front(candidates: list[Candidate]) -> list[Candidate]:
    """The candidates, marked where no other is at least as fast, as small and as good, and better in one of them."""

    def figures(each: Candidate) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([each.speedup, -each.bytes, -(each.auroc_loss.value or 0.0)])

    def beaten(one: Candidate) -> bool:
        mine = figures(one)
        return any((figures(other) >= mine).all() and (figures(other) > mine).any() for other in candidates)

    return [replace(each, front=not beaten(each)) for each in candidates]


def _malignant(manifest: Manifest, logits: Any) -> Any:
    return to_malignant(to_probabilities(logits, manifest.temperature), manifest)


def _explain(best: Candidate | None, candidates: list[Candidate]) -> str:
    if best is not None:
        return f"the smallest of the fastest that answer as well: {best.speedup:.2f} times fp32"
    reasons = {each.refused for each in candidates if each.refused}
    return "fp32 is kept: " + ("; ".join(sorted(map(str, reasons))) or "no recipe could be built")
