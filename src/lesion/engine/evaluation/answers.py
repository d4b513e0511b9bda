"""What a model file answers for the images of a split, beside what is true of them."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

from lesion.config.schema import Config
from lesion.data.index import Row
from lesion.data.split import Dataset, open_dataset
from lesion.errors import DataError
from lesion.escape import to_csv
from lesion.inference.decide import Floats, to_malignant, to_probabilities
from lesion.inference.predictor import Answers, Pixels, Predictor
from lesion.manifest import Manifest
from lesion.progress import Progress, track
from lesion.records import REFER, Prediction
from lesion.taxonomy import MALIGNANT

BATCH = 16
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SplitAnswers:
    """n images, each with what is known of it and what the model says."""

    rows: Sequence[Row]
    predictions: Sequence[Prediction]
    """The records that `predict` and `serve` would give."""
    raw: Answers
    """What the graph computed."""
    manifest: Manifest
    seconds: float
    """Of the graph alone, from ready pixels."""

    @property
    def lesions(self) -> list[str]:
        """The lesion of each image."""
        return [row.lesion_id for row in self.rows]

    @property
    def truth(self) -> Bools:
        """Whether each image is malignant, (n,)."""
        return np.array([self.manifest.taxonomy.is_malignant(row.dx) for row in self.rows], bool)

    @property
    def malignant(self) -> Floats:
        """Malignant probabilities, (n,)."""
        return np.array([each.class_probabilities[MALIGNANT] for each in self.predictions])

    @property
    def uncalibrated(self) -> Floats:
        """Malignant probabilities without the temperature, (n,)."""
        return to_malignant(to_probabilities(self.raw.logits, 1.0), self.manifest)

    @property
    def probabilities(self) -> Floats:
        """Calibrated probabilities, (n, c)."""
        return to_probabilities(self.raw.logits, self.manifest.temperature)

    @property
    def predicted(self) -> Bools:
        """Whether each image is called malignant, (n,)."""
        return np.array([each.prediction == MALIGNANT for each in self.predictions], bool)

    @property
    def referred(self) -> Bools:
        """Whether each image is referred, (n,)."""
        return np.array([each.decision == REFER for each in self.predictions], bool)

    def take(self, places: Sequence[int]) -> "SplitAnswers":
        """Those at `places`."""
        raw = Answers(self.raw.logits[places], self.raw.checks[places], None)
        rows, predictions = ([each[i] for i in places] for each in (self.rows, self.predictions))
        return SplitAnswers(rows, predictions, raw, self.manifest, self.seconds)  # type: ignore[arg-type]

    def to_csv(self) -> str:
        """One line per image; probabilities and measures in full precision, texts as `to_csv` writes them."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        taxonomy = self.manifest.taxonomy
        labels = taxonomy.labels if taxonomy.knows_diagnoses else ()
        checks = [check.name for check in self.manifest.checks]
        head = ("image_id", "lesion_id", "dx", "prediction", "decision", "flags", MALIGNANT)
        writer.writerow(map(to_csv, (*head, *labels, *checks)))
        for row, answer, measures in zip(self.rows, self.predictions, self.raw.checks.tolist(), strict=True):
            said = (answer.prediction, answer.decision, " ".join(answer.flags), answer.class_probabilities[MALIGNANT])
            diagnoses = (answer.diagnosis_probabilities or {}).values()
            writer.writerow(map(to_csv, (row.image_id, row.lesion_id, row.dx, *said, *diagnoses, *measures)))
        return text.getvalue()


def open_split(
    predictor: Predictor, model: Path, split: str, config: Config, progress: Progress
) -> tuple[Dataset, list[Row]]:
    """The dataset, and the images of its `split`, that the file `model` may be tested on.

    Raises DataError when it was trained on another split of the data than the one found: its training lesions could
    be among the ones it is tested on. Errors of `open_dataset`.
    """
    dataset = open_dataset(config.data, progress)
    dataset.require_split(predictor.manifest.provenance.get("split"), model)
    if not dataset.members[split]:
        raise DataError(
            f"the {split} split of {dataset.root} has no images", hint=f"use more data, or more data.{split}"
        )
    return dataset, dataset.members[split]


def ask(predictor: Predictor, rows: Sequence[Row], pixels: Pixels, progress: Progress) -> SplitAnswers:
    """Let `predictor` answer for ready pixels (n, size, size, 3); CheckFailed when an answer is not a number."""
    start = perf_counter()
    places = range(0, len(rows), BATCH)
    parts = [predictor.run(pixels[i : i + BATCH]) for i in track(progress, places, len(places), "predict")]
    return judge(predictor, rows, parts, perf_counter() - start)


def judge(predictor: Predictor, rows: Sequence[Row], parts: Sequence[Answers], seconds: float) -> SplitAnswers:
    """What follows from the graph's answers, some images at a time, for `rows`; CheckFailed as in `ask`."""
    raw = Answers(
        np.concatenate([part.logits for part in parts]), np.concatenate([part.checks for part in parts]), None
    )
    predictions = predictor.decide_named(raw, [row.image_id for row in rows])
    return SplitAnswers(rows, predictions, raw, predictor.manifest, seconds)
