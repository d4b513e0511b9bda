"""One image on its way through the server, and the answers of a batch of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from lesion.errors import LesionError
from lesion.inference.explain import to_heat
from lesion.inference.predictor import Answers, Predictor
from lesion.records import Prediction
from lesion.serve.overlay import Explanation, explain
from lesion.serve.slot import Serving


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer for one image."""

    prediction: Prediction
    checks: list[float]
    """Measures of the image, in the order of the manifest's checks."""
    explanation: Explanation | None
    """If asked for."""
    digest: str
    """SHA-256 of the image file."""
    stages: dict[str, tuple[float, float]]
    """When "queue", "decode", "wait" (for a lane) and "infer" began and ended, in seconds of `perf_counter`."""
    batch: int
    """Images that were run together, in the outcome of the first of them; 0 in the others'."""


@dataclass(slots=True, eq=False)
class Job:
    """One image on its way; nothing more is done for it once its future is done."""

    content: bytes
    name: str
    serving: Serving
    explain: bool
    future: "asyncio.Future[Outcome]"
    pixels: npt.NDArray[np.uint8] | None = None
    digest: str = ""
    times: list[float] = field(default_factory=list)
    """When it came, when its decoding began and ended, when its run began."""


def answer_batch(
    jobs: Sequence[Job], crowded: bool, options: ort.RunOptions | None = None
) -> "dict[Job, Outcome | Exception]":
    """Run decoded images of one model in one inference, and return the outcome or the error of each.

    Args:
        jobs: At least one; all with the same model and the same `explain`.
        crowded: Whether other images wait, so that this inference gets one thread.
        options: To end the inference early from another thread.

    Raises CheckFailed or OutOfMemory when the inference fails as a whole.
    """
    predictor = jobs[0].serving.narrow if crowded else jobs[0].serving.wide
    start = perf_counter()
    pixels = np.stack([job.pixels for job in jobs if job.pixels is not None])
    answers = predictor.run(pixels, maps=jobs[0].explain, options=options)
    end = perf_counter()
    results: dict[Job, Outcome | Exception] = {}
    for i, job in enumerate(jobs):
        came, began, decoded = job.times
        stages = {
            "queue": (came, began), "decode": (began, decoded), "wait": (decoded, start), "infer": (start, end)
        }  # fmt: skip
        try:
            prediction, explanation = _describe(predictor, answers, i, job.name)
        except LesionError as error:  # of this image alone
            results[job] = error
        else:
            batch = len(jobs) if i == 0 else 0
            results[job] = Outcome(prediction, answers.checks[i].tolist(), explanation, job.digest, stages, batch)
    return results


def _describe(predictor: Predictor, answers: Answers, i: int, name: str) -> tuple[Prediction, Explanation | None]:
    """Image i of a batch by itself, so that none suffers for another one's sake."""
    maps = None if answers.maps is None else answers.maps[i : i + 1]
    one = Answers(answers.logits[i : i + 1], answers.checks[i : i + 1], maps)
    (prediction,) = predictor.decide(one, ["the image"])  # what is raised must not tell the name
    prediction = replace(prediction, source=name)
    if maps is None:
        return prediction, None
    (heat,) = to_heat(maps, one.logits, predictor.manifest)
    return prediction, explain(heat, predictor.manifest.preprocess.size)
