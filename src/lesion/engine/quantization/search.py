"""Which quantized twin of a run's model file is worth shipping, if any: all are measured, the best one is kept."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from lesion.artifact import Artifact
from lesion.config.load import load_config
from lesion.config.schema import Config
from lesion.data.split import open_dataset
from lesion.engine.export import make_artifact, save
from lesion.engine.parity import Parity, compare, measure_latency, run_batches
from lesion.engine.quantization.memory import measure_memory
from lesion.engine.quantization.noninferiority import (
    Answers,
    confirm,
    find_excess,
    measure_losses,
    select_search,
)
from lesion.engine.quantization.recipe import Recipe, choose_recipes
from lesion.engine.quantization.rewrite import quantize_graph
from lesion.engine.validation import Validation, sample_training
from lesion.errors import DataError, brief
from lesion.exports import Candidate, Confirmation, QuantizeReport
from lesion.files import write_atomic
from lesion.inference.decide import to_malignant, to_probabilities
from lesion.inference.predictor import Predictor
from lesion.machine import find_instructions, name_processor
from lesion.manifest import Manifest
from lesion.progress import Progress, Silent, track
from lesion.records import Estimate, to_json
from lesion.run import Run

log = logging.getLogger(__name__)
FP32 = "fp32"
SLOWER = "not faster on this machine"
HOPELESS = 0.95  # times as fast as fp32: below, no luck of the measurement makes it faster
ALIKE = 0.9  # of the fastest's speed: what a smaller loss is worth; repeated timings differ by half as much
STEP = 0.0005  # of AUROC; a smaller difference is none
TRIES = 3  # recipes that may be confirmed on the same images, one after the other
UNKNOWN = Estimate(None, None, None)
ROUNDS = 6  # of each latency: on a shared machine most of them are disturbed
LEAST = 8  # images that ranges can be seen on


def quantize_run(run: Run, progress: Progress | None = None) -> QuantizeReport:
    """Try every recipe on the run's model.onnx; write the best admissible one to model.int8.onnx.

    A third of the validation lesions chooses among the recipes that are faster on this machine, the others confirm the
    choice: see `noninferiority`. Temperature and operating point are fitted anew, on all of them. If no recipe is
    confirmed, fp32 is kept, and an older model.int8.onnx removed. All that was measured is in quantization.json.
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
    best, confirmation, candidates = choose(bench, candidates, {name: each[1] for name, each in tried.items()})
    exported = None
    if best is None:
        run.quantized.unlink(missing_ok=True)
    else:
        _, artifact, parity = tried[best.name]
        assert parity is not None
        assert confirmation is not None
        measured = {
            "latency_ms": best.latency_ms,
            "speedup": best.speedup,
            "auroc_loss": confirmation.losses.auroc.value,
            "specificity_loss": confirmation.losses.specificity.value,
            "shown": confirmation.shown,
        }
        facts = {**artifact.manifest.provenance["quantization"], **measured}
        artifact = replace(artifact, manifest=artifact.with_provenance(quantization=facts))
        exported = save(artifact, run.quantized, parity, bench.reference.latency_ms)
    report = QuantizeReport(
        str(run.model), best.name if best else FP32, explain(best, confirmation, candidates), candidates, exported,
        confirmation,
    )  # fmt: skip
    write_atomic(run.quantization, to_json(report))
    return report


class Bench:
    """The fp32 file, and what every candidate is measured against."""

    def __init__(self, source: Artifact, config: Config, validation: Validation) -> None:
        self.source, self.config, self.validation = source, config, validation
        predictor = Predictor(source)
        self.logits = run_batches(predictor, validation.pixels).logits
        self.malignant = _malignant(source.manifest, self.logits)
        self.search = select_search(validation.malignant, validation.lesions)
        self.answers: dict[str, Answers] = {}  # digest of a candidate → those to validation
        del predictor  # threads of two sessions that wait for work slow each other down
        latency = min(measure_latency(Predictor(source)) for _ in range(ROUNDS))
        figures = source.manifest.provenance["validation"]
        none = Estimate(0.0, 0.0, 0.0)
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
        pair = Answers(self.malignant, malignant, self.validation.malignant, self.validation.lesions)
        self.answers[artifact.digest] = pair
        losses = measure_losses(pair.select(self.search), self.config.eval.sensitivity)
        figures = artifact.manifest.provenance["validation"]
        candidate = replace(
            slow,
            memory=measure_memory(artifact),  # not of the draft, whose self-test is that of another file
            auroc_loss=losses.auroc,
            validation=figures,
            max_difference=parity.max_difference,
            flips=parity.flips,
        )
        refused = find_excess(losses, self.config.export) or (SLOWER if speedup <= 1 else None)
        return replace(candidate, refused=refused), artifact, parity

    def confirm(self, artifact: Artifact) -> Confirmation:
        """Test a file that `judge` made, on the lesions that it was not chosen on."""
        others = self.answers[artifact.digest].select(~self.search)
        return confirm(others, self.config.eval.sensitivity, self.config.export)


def race(artifact: Artifact, reference: Artifact) -> tuple[float, float]:
    """Milliseconds of `artifact` for one image, and how many times faster than `reference` that is.

    In turn, one session at a time, since threads of two that wait for work slow each other down; the fastest of the
    rounds counts, since what else a machine does can only slow one down.
    """
    times = [[measure_latency(Predictor(each)) for each in (artifact, reference)] for _ in range(ROUNDS)]
    ours, theirs = map(min, zip(*times, strict=True))
    return ours, theirs / ours


def choose(
    bench: Bench, candidates: list[Candidate], files: dict[str, Artifact]
) -> tuple[Candidate | None, Confirmation | None, list[Candidate]]:
    """The first candidate in rank that is confirmed, the last test, and the candidates with those tests' refusals."""
    confirmation = None
    ranked = rank([candidate for candidate in candidates if candidate.name in files and candidate.refused is None])
    for candidate in ranked[:TRIES]:
        confirmation = bench.confirm(files[candidate.name])
        if confirmation.refused is None:
            return candidate, confirmation, candidates
        refused = replace(candidate, refused=confirmation.refused)
        candidates = [refused if each is candidate else each for each in candidates]
    return None, confirmation, candidates


def rank(admitted: list[Candidate]) -> list[Candidate]:
    """The candidates, best first: those nearly as fast as the fastest by loss of AUROC, then by size; then the rest."""
    fastest = max((each.speedup for each in admitted), default=0.0)

    def key(each: Candidate) -> tuple[bool, int, int, float]:
        slow = each.speedup < ALIKE * fastest
        # In steps of 0.1 MB: less is no difference.
        return slow, round(max(each.auroc_loss.value or 0.0, 0.0) / STEP), round(each.bytes, -5), -each.speedup

    return sorted(admitted, key=key)


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


def explain(best: Candidate | None, confirmation: Confirmation | None, candidates: list[Candidate]) -> str:
    """Why `best` was chosen, and whether it is shown to answer as well; or why fp32 is kept."""
    if best is None or confirmation is None:
        reasons = {each.refused for each in candidates if each.refused}
        return "fp32 is kept: " + ("; ".join(sorted(map(str, reasons))) or "no recipe could be built")
    losses = "; ".join(
        f"{name} lost {each.value:.4f} ({each.low:.4f} to {each.high:.4f})"
        for name, each in (("AUROC", confirmation.losses.auroc), ("specificity", confirmation.losses.specificity))
        if each.value is not None and each.low is not None and each.high is not None
    )
    chosen = f"{best.name}, {best.speedup:.2f} times as fast as fp32; on {confirmation.images} other validation images"
    measured = f"{chosen}: {losses or 'no loss can be measured'}"
    if confirmation.shown:
        return f"{measured}; within the limits"
    return f"{measured}. Whether it answers as well as fp32 could not be tested: {confirmation.doubt}"
