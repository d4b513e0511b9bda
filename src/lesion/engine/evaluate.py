"""How good an exported file is on a split, measured through the same Predictor that serves it."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from lesion.config.load import load_config
from lesion.config.schema import Config
from lesion.data.index import Row
from lesion.data.partition import SPLITS
from lesion.data.split import Dataset, open_dataset
from lesion.files import write_atomic
from lesion.inference.predictor import Predictor
from lesion.metrics import confusion, estimate
from lesion.progress import Progress, Silent, track
from lesion.records import EvalReport, Prediction, to_json
from lesion.run import run_of
from lesion.suggest import lookup
from lesion.taxonomy import MALIGNANT
from lesion.tracking.store import record_evaluation

BATCH = 16


def evaluate(
    model: Path, split: str = "test", config: Config | None = None, progress: Progress | None = None
) -> EvalReport:
    """Measure the file `model` on `split` ("train", "val" or "test").

    Without a `config`, the data are those of the run that `model` lies in. The report, and the answer
    for every image, are kept in that run's folder.

    Raises DataError when the file was trained on another split of the data than the one found: its training
    lesions could be among the ones it is tested on. Errors of `Predictor.load` and `open_dataset`.
    """
    lookup({name: name for name in SPLITS}, split, "split")
    start, show = perf_counter(), progress or Silent()
    run = run_of(model)
    predictor = Predictor.load(model)
    chosen = config or load_config([run.config] if run else [])
    dataset = open_dataset(chosen.data, show)
    dataset.require_split(predictor.manifest.provenance.get("split"), model)
    rows = dataset.members[split]
    predictions = _predict(predictor, dataset, rows, chosen.data.workers, show)
    probabilities = np.array([prediction.class_probabilities[MALIGNANT] for prediction in predictions])
    predicted = np.array([prediction.prediction == MALIGNANT for prediction in predictions])
    truth = np.array([predictor.manifest.taxonomy.is_malignant(row.dx) for row in rows])
    lesions = [row.lesion_id for row in rows]
    report = EvalReport(
        model=predictor.identity,
        split=split,
        fingerprint=dataset.fingerprint,
        images=len(rows),
        lesions=len(set(lesions)),
        malignant=int(truth.sum()),
        threshold=predictor.manifest.threshold,
        metrics=estimate(probabilities, truth, lesions, predictor.manifest.threshold),
        confusion={name: int(count[0]) for name, count in confusion(predicted, truth).items()},
        seconds=perf_counter() - start,
    )
    if run:
        write_atomic(run.answers(split), _answers(rows, predictions))
        write_atomic(run.report(split), to_json(report))
        record_evaluation(chosen.tracking.store, model, split, report.metrics)
    return report


def _predict(
    predictor: Predictor, dataset: Dataset, rows: Sequence[Row], workers: int, progress: Progress
) -> list[Prediction]:
    """The answers for `rows` from decoded pixels: those that the predictor itself would make of the files."""
    pixels = dataset.open_cache(predictor.manifest.preprocess, workers, progress).take(rows)
    starts = range(0, len(rows), BATCH)
    batches = track(progress, starts, len(starts), "predict")
    return [
        prediction
        for i in batches
        for prediction in predictor.predict_pixels(pixels[i : i + BATCH], [row.image_id for row in rows[i : i + BATCH]])
    ]


def _answers(rows: Sequence[Row], predictions: Sequence[Prediction]) -> str:
    """CSV with one line per image; probabilities in full precision."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    labels = list(predictions[0].diagnosis_probabilities or ())
    writer.writerow(("image_id", "lesion_id", "dx", "prediction", MALIGNANT, *labels))
    for row, answer in zip(rows, predictions, strict=True):
        diagnoses = (answer.diagnosis_probabilities or {}).values()
        writer.writerow(
            (row.image_id, row.lesion_id, row.dx, answer.prediction, answer.class_probabilities[MALIGNANT], *diagnoses)
        )
    return text.getvalue()
