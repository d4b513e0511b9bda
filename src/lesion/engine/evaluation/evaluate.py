"""How good an exported file is on a split, measured through the same Predictor that serves it."""

from dataclasses import replace
from pathlib import Path
from time import perf_counter

from lesion.config.load import load_config
from lesion.config.schema import Config
from lesion.data.partition import SPLITS
from lesion.engine.evaluation.answers import ask, open_split
from lesion.engine.evaluation.comparison import find_differences
from lesion.engine.evaluation.findings import find_findings
from lesion.engine.evaluation.outputs import Outputs, to_name
from lesion.engine.evaluation.stress import estimate_stress
from lesion.engine.evaluation.worst import explain_worst
from lesion.evaluation import Evaluation
from lesion.inference.predictor import Predictor
from lesion.progress import Progress, Silent
from lesion.run import run_of
from lesion.suggest import lookup
from lesion.tracking.store import record_evaluation


def evaluate(
    model: Path,
    split: str = "test",
    config: Config | None = None,
    progress: Progress | None = None,
    *,
    stress: bool = False,
    tta: bool = False,
    html: Path | None = None,
    card: Path | None = None,
) -> Evaluation:
    """Measure the file `model` on `split` ("train", "val" or "test").

    Without a `config`, the data are those of the run that `model` lies in. What is found, the answer for every image,
    a page and a card are kept in that run's folder, the page in `html` and the card in `card` if those are given.

    Args:
        model: A model file.
        split: Which images.
        config: Where the data are, and `eval.stress_images`.
        progress: Who watches.
        stress: Change the pictures in every way of `changes`, too.
        tta: Let each answer be the mean over eight views, and measure what that gains over one.
        html: Where the page goes.
        card: Where the model card goes.

    Raises:
        DataError: The file was trained on another split of the data than the one found, or the split is empty.
        CheckFailed: An answer is not a number.
        OutputError: Something cannot be written.
        LesionError: As `Predictor.load` and `open_dataset` do.
    """
    lookup(dict.fromkeys(SPLITS), split, "split")
    outputs = Outputs.of(model, split, tta, html, card)
    outputs.check()
    start, show, run = perf_counter(), progress or Silent(), run_of(model)
    plain = Predictor.load(model)
    predictor = Predictor(plain.artifact, tta=True) if tta else plain
    chosen = config or load_config([run.config] if run else [])
    dataset, rows = open_split(predictor, model, split, chosen, show)
    pixels = dataset.open_cache(predictor.manifest.preprocess, chosen.data.workers, show).take(rows)
    answers = ask(predictor, rows, pixels, show)
    found = find_findings(answers, pixels, dataset, split, predictor.artifact.identity, show)
    if tta:
        without = ask(plain, rows, pixels, show)
        speed = len(rows) / without.seconds
        found = replace(found, tta=True, tta_gain=find_differences(answers, without), plain_images_per_second=speed)
    if stress:
        changed = estimate_stress(predictor, answers, pixels, chosen.eval.stress_images, chosen.data.workers, show)
        found = replace(found, stress=changed)
    found = replace(found, seconds=perf_counter() - start)
    outputs.write(found, answers, explain_worst(found.worst, answers, pixels, predictor))
    if run:
        record_evaluation(chosen.tracking.store, model, to_name(split, tta), found.metrics)
    return found
