"""How the model does when every picture is changed in one way."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np

from lesion.data.index import Row
from lesion.data.pixels import read_photo
from lesion.engine.evaluation.answers import Bools, SplitAnswers, judge
from lesion.engine.evaluation.changes import BANK, OF_PHOTO, OF_PIXELS
from lesion.evaluation import Stress
from lesion.inference.decide import Floats
from lesion.inference.predictor import Answers, Pixels, Predictor
from lesion.metrics import auroc, count_pairs, estimate_figures
from lesion.metrics.samples import divide
from lesion.progress import Progress, track

Changed = dict[tuple[str, str], SplitAnswers]


def estimate_stress(
    predictor: Predictor, answers: SplitAnswers, pixels: Pixels, most: int, workers: int, progress: Progress
) -> list[Stress]:
    """Every change of `changes`, on at most `most` lesions of a split: pixels (n, s, s, 3) and their answers."""
    places = spread(answers.lesions, answers.truth, most)
    plain = answers.take(places)
    changed = _ask(predictor, plain.rows, pixels[places], workers, progress)
    return compare_changed(plain, changed)


def spread(lesions: Sequence[str], truth: Bools, most: int) -> list[int]:
    """The places of at most `most` images, each of another lesion, malignant and benign in their proportion."""
    first = {lesion: i for i, lesion in reversed(list(enumerate(lesions)))}
    places = sorted(first.values(), key=lambda i: (bool(truth[i]), lesions[i]))
    return [places[k] for k in np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int)]


def compare_changed(plain: SplitAnswers, changed: Changed) -> list[Stress]:
    """What each change did to `plain`, with intervals from the same resamples of lesions."""
    truth, lesions, before = plain.truth, plain.lesions, plain.malignant
    flipped = {key: each.predicted != plain.predicted for key, each in changed.items()}
    malignant = {key: each.malignant for key, each in changed.items()}

    def measure(weights: Floats) -> Mapping[str, Floats]:
        unchanged = auroc(before, truth, weights)
        figures: dict[str, Floats] = {}
        for key in changed:
            after = auroc(malignant[key], truth, weights)
            share = divide(weights @ flipped[key], weights.sum(1))
            figures |= {f"auroc {key}": after, f"change {key}": after - unchanged, f"flipped {key}": share}
        return figures

    trials = {f"flipped {key}": len(set(lesions)) for key in changed}
    pairs = {f"auroc {key}": count_pairs(truth, lesions) for key in changed}
    found = estimate_figures(measure, lesions, trials=trials, pairs=pairs)
    return [
        Stress(
            *key,
            auroc=found[f"auroc {key}"],
            auroc_change=found[f"change {key}"],
            flipped=found[f"flipped {key}"],
            referred=float(each.referred.mean()),
        )
        for key, each in changed.items()
    ]


def _ask(predictor: Predictor, rows: Sequence[Row], pixels: Pixels, workers: int, progress: Progress) -> Changed:
    parts: dict[tuple[str, str], list[Answers]] = {key: [] for key in (*OF_PIXELS, *OF_PHOTO)}
    starts = range(0, len(rows), BANK)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for i in track(progress, starts, len(starts), "stress"):
            for key, some in _change(predictor, rows[i : i + BANK], pixels[i : i + BANK], pool):
                parts[key].append(predictor.run(some))
    return {key: judge(predictor, rows, each, 0.0) for key, each in parts.items()}


def _change(
    predictor: Predictor, rows: Sequence[Row], pixels: Pixels, pool: Executor
) -> Iterator[tuple[tuple[str, str], Pixels]]:
    """A few images, changed in every way."""
    spec = predictor.manifest.preprocess
    photos = list(pool.map(lambda row: read_photo(row.path), rows))
    for key, of_photo in OF_PHOTO.items():
        yield key, np.stack(list(pool.map(lambda photo, of=of_photo: spec.apply(of(photo, spec.size)), photos)))
    for key, of_pixels in OF_PIXELS.items():
        yield key, of_pixels(pixels)
