"""Two models on the same images: the difference of their figures."""

from functools import partial
from pathlib import Path

import numpy as np

from lesion import metrics
from lesion.config.load import load_config
from lesion.config.schema import Config
from lesion.data.partition import SPLITS
from lesion.engine.evaluation.answers import SplitAnswers, ask, open_split
from lesion.engine.evaluation.comparison_page import render_comparison
from lesion.errors import DataError
from lesion.evaluation import ComparisonReport, Difference
from lesion.files import ensure_folder, write_atomic
from lesion.inference.predictor import Predictor
from lesion.manifest import Manifest
from lesion.progress import Progress, Silent
from lesion.run import run_of
from lesion.suggest import lookup

COMPARED = ("auroc", "average_precision", "sensitivity", "specificity", "calibration_error", "brier")
BOOTSTRAP = "lesion bootstrap"
METHODS = {
    "sensitivity": "Newcombe, lesion bootstrap",
    "specificity": "Newcombe, lesion bootstrap",
    "calibration_error": "not tested: biased",
}


def compare_models(
    a: Path,
    b: Path,
    split: str = "test",
    config: Config | None = None,
    progress: Progress | None = None,
    html: Path | None = None,
) -> ComparisonReport:
    """What the file `a` does better than `b`, or worse, on `split`; the data are those of a's run, as in `evaluate`.

    A page for a reader goes to `html`, if given. Raises DataError when no split is new to both, or when they call
    different diagnoses malignant. Errors as in `evaluate`.
    """
    lookup(dict.fromkeys(SPLITS), split, "split")
    if html:
        ensure_folder(html.parent)
    show, run = progress or Silent(), run_of(a)
    predictors = [Predictor.load(path) for path in (a, b)]
    _require_same(a, b, *(predictor.manifest for predictor in predictors))
    chosen = config or load_config([run.config] if run else [])
    dataset, rows = open_split(predictors[0], a, split, chosen, show)
    answers = [
        ask(each, rows, dataset.open_cache(each.manifest.preprocess, chosen.data.workers, show).take(rows), show)
        for each in predictors
    ]
    rocs = [metrics.estimate_roc(each.malignant, each.truth, each.lesions) for each in answers]
    report = ComparisonReport(
        a=predictors[0].identity,
        b=predictors[1].identity,
        split=split,
        fingerprint=dataset.fingerprint,
        images=len(rows),
        lesions=len(set(answers[0].lesions)),
        differences=find_differences(*answers),
        flipped=int((answers[0].predicted != answers[1].predicted).sum()),
        roc_a=rocs[0],
        roc_b=rocs[1],
    )
    if html:
        write_atomic(html, render_comparison(report))
    return report


def find_differences(a: SplitAnswers, b: SplitAnswers) -> list[Difference]:
    """Figures of `a`, of `b`, and their paired difference: AUROC also by lesion, with DeLong's test."""
    truth, lesions = a.truth, a.lesions
    measure_a, measure_b = (partial(metrics.measure, each.malignant, truth, each.manifest.threshold) for each in (a, b))
    pairs = {"auroc": metrics.count_pairs(truth, lesions)}
    sides = zip((a, b), (measure_a, measure_b), strict=True)
    of_a, of_b = (
        metrics.estimate_figures(
            measure, lesions, trials=metrics.count_trials(each.predicted, truth, lesions), pairs=pairs
        )
        for each, measure in sides
    )
    same = np.array_equal(a.malignant, b.malignant) and a.manifest.threshold == b.manifest.threshold
    shares = {
        "sensitivity": metrics.count_lesions(lesions, truth),
        "specificity": metrics.count_lesions(lesions, ~truth),
    }
    paired = metrics.compare(measure_a, measure_b, lesions, trials=shares, pairs=pairs, same=same)
    of_images = [
        Difference(name, of_a[name], of_b[name], paired[name].difference, paired[name].p, METHODS.get(name, BOOTSTRAP))
        for name in COMPARED
    ]
    return [*of_images, _compare_lesions(a, b)]


def _compare_lesions(a: SplitAnswers, b: SplitAnswers) -> Difference:
    (p, truth, lesions), (q, _, _) = (metrics.pool(each.malignant, each.truth, each.lesions) for each in (a, b))

    of_a, of_b = (metrics.estimate_auroc(scores, truth, lesions) for scores in (p, q))
    found = metrics.delong(p, q, truth)
    return Difference("lesion.auroc", of_a, of_b, found.difference, found.p, "DeLong")


def _require_same(a: Path, b: Path, ours: Manifest, theirs: Manifest) -> None:
    splits = [manifest.provenance.get("split") for manifest in (ours, theirs)]
    if splits[0] != splits[1]:
        raise DataError(
            f"{a} was trained on split {splits[0]}, {b} on split {splits[1]}: what is new to one is not to the other",
            hint="compare models that were trained on the same split of the same data",
        )
    if set(ours.taxonomy.malignant) != set(theirs.taxonomy.malignant):
        words = [", ".join(manifest.taxonomy.malignant) for manifest in (ours, theirs)]
        raise DataError(
            f"{a} calls {words[0]} malignant, {b} {words[1]}: they do not answer the same question",
            hint="train both with the same data.malignant",
        )
