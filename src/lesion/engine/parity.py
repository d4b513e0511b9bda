"""Whether a file answers as its reference does, and how fast."""

from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
import numpy.typing as npt

from lesion.artifact import Artifact
from lesion.engine.validation import Pixels, Validation
from lesion.errors import CheckFailed
from lesion.inference.decide import to_malignant, to_probabilities
from lesion.inference.predictor import Answers, Predictor, draw_test_image

Logits = npt.NDArray[np.float32]
BATCH = 16


@dataclass(frozen=True, slots=True)
class Parity:
    """How a file's answers differ from a reference's on the same pixels."""

    images: int
    max_difference: float
    """Largest difference of a probability."""
    flips: int
    """Decisions that differ."""
    latency_ms: float
    """Median milliseconds of the file for one image of ready pixels."""

    def require(self, tolerance: float, reference: str = "torch") -> None:
        """CheckFailed when a probability differs by more than `tolerance` or any decision flips."""
        if not self.max_difference <= tolerance or self.flips:  # `not <=`: NaN must fail, too
            raise CheckFailed(
                f"the exported file disagrees with {reference} on {self.images} validation images: a probability "
                f"differs by {self.max_difference:.2g} (at most {tolerance:.2g} expected), {self.flips} decisions "
                "flip (0 expected)",
                hint="the file was not written; please report this with the run's config.yaml",
            )


def compare(artifact: Artifact, reference: Logits, validation: Validation, logits: Logits | None = None) -> Parity:
    """Run `artifact` on validation, unless its `logits` (n, c) are known, against the reference logits."""
    predictor = Predictor(artifact)
    predictor.run_self_test()
    manifest = artifact.manifest
    if logits is None:
        logits = run_batches(predictor, validation.pixels).logits
    ours = to_probabilities(logits, manifest.temperature)
    theirs = to_probabilities(reference, manifest.temperature)
    decisions = [to_malignant(each, manifest) >= manifest.threshold for each in (ours, theirs)]
    flips = int((decisions[0] != decisions[1]).sum())
    return Parity(len(ours), float(np.abs(ours - theirs).max()), flips, measure_latency(predictor))


def run_batches(predictor: Predictor, pixels: Pixels) -> Answers:
    """Logits and checks of many pixels, some at a time."""
    parts = [predictor.run(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
    logits, checks = (np.concatenate([getattr(part, name) for part in parts]) for name in ("logits", "checks"))
    return Answers(logits, checks, None)


def measure_latency(predictor: Predictor, repeats: int = 15) -> float:
    """Median milliseconds for one image of ready pixels."""
    pixels = predictor.read(draw_test_image())[None]
    times = []
    for _ in range(repeats):
        start = perf_counter()
        predictor.run(pixels)
        times.append(perf_counter() - start)
    return median(times) * 1000
