"""How long a whole evaluation takes: once here, and once with torch eager and scikit-learn in a loop over resamples."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench.pairs import Row, compare

COUNTED = 40  # resamples that their loops draw; they are linear, so the time counts for all 2,000
BATCH = 32
Places = np.ndarray  # of images


def measure(folder: Path, root: Path | None, path: Path | None) -> list[Row]:
    """Figures, curves, subgroups, stress and report on the test split of a run; without one, of a quick training."""
    from lesion.config.load import load_config
    from lesion.engine.evaluation.evaluate import evaluate
    from lesion.engine.train import train
    from lesion.run import Run

    if path is None:
        words = [f"data.root={root}", f"runs={folder / 'runs'}", "preprocess.size=128", "trainer.epochs=1"]
        path = Path(train(load_config(overrides=words)).run)
    run, config = Run(path), load_config([path / "config.yaml"])
    theirs = Theirs(run, config)
    pages = {"html": folder / "page.html", "card": folder / "card.md"}

    def ours() -> None:
        evaluate(run.model, "test", config, stress=True, **pages)

    n = len(theirs.rows)
    return [
        compare(f"answers to {n} images, each", theirs.ask_ours, "torch eager", theirs.ask, 3, 1, n, n),
        compare(
            f"evaluate {n} images, stress, report", ours, f"torch, sklearn, {COUNTED} drawn", theirs.evaluate, 1, 0
        ),
    ]


class Theirs:
    """The same work as it is often written; what costs next to nothing, page and card, is left to ours alone."""

    def __init__(self, run: Any, config: Any) -> None:
        from lesion.data.split import open_dataset
        from lesion.engine.export import load_network
        from lesion.inference.predictor import Predictor

        self.net = load_network(run.path / run.read_state()["best_checkpoint"], config)
        self.predictor, self.config = Predictor.load(run.model), config
        self.manifest = self.predictor.manifest
        dataset = open_dataset(config.data)
        self.rows = dataset.members["test"]
        self.pixels = dataset.open_cache(self.manifest.preprocess, config.data.workers).take(self.rows)
        self.truth = np.array([self.manifest.taxonomy.is_malignant(row.dx) for row in self.rows])
        self.lesions = np.array([row.lesion_id for row in self.rows])
        self.targets = np.array([self.manifest.taxonomy.target(row.dx) for row in self.rows])

    def ask_ours(self) -> None:
        for i in range(0, len(self.pixels), BATCH):
            self.predictor.run(self.pixels[i : i + BATCH])

    def ask(self) -> None:
        self.probabilities(self.pixels)

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            parts = [self.net(torch.from_numpy(pixels[i : i + BATCH])) for i in range(0, len(pixels), BATCH)]
            return (torch.cat(parts) / self.manifest.temperature).softmax(1).numpy()

    def evaluate(self) -> float:
        """Seconds: of what is done once, and of the loops as if they had drawn all resamples."""
        from lesion.metrics import RESAMPLES

        start = perf_counter()
        self.all = self.probabilities(self.pixels)
        self.p = self.to_malignant(self.all)
        stress = self.stress()
        groups = self.find_groups()
        once, start = perf_counter() - start, perf_counter()
        everyone = np.arange(len(self.rows))
        self.resample(everyone, self.figures)
        self.resample(everyone, self.curves)
        self.resample(everyone, self.diagnoses)
        self.resample(everyone, self.referral)
        firsts = np.unique(self.lesions, return_index=True)[1]
        self.resample(firsts, self.figures)  # lesion-level
        for places in groups:
            self.resample(places, self.few_figures)
        for places, changed in stress:
            self.resample(places, lambda chosen, after=changed: self.change(chosen, after))
        return once + (perf_counter() - start) * RESAMPLES / COUNTED

    def to_malignant(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities[:, list(self.manifest.taxonomy.malignant_outputs)].sum(1)

    def stress(self) -> list[tuple[Places, np.ndarray]]:
        """The very same changes of the very same images."""
        from lesion.engine.evaluation.changes import BANK, OF_PHOTO, OF_PIXELS
        from lesion.engine.evaluation.stress import spread
        from lesion.images import read_image

        places, spec = (
            np.array(spread(list(self.lesions), self.truth, self.config.eval.stress_images)),
            self.manifest.preprocess,
        )
        plain, changed = self.pixels[places], []
        for change in OF_PIXELS.values():
            changed.append(np.concatenate([change(plain[i : i + BANK]) for i in range(0, len(plain), BANK)]))
        photos = [read_image(self.rows[i].path) for i in places]
        for change in OF_PHOTO.values():
            changed.append(np.stack([spec.apply(change(photo, spec.size)) for photo in photos]))
        return [(places, self.spread(places, self.to_malignant(self.probabilities(pixels)))) for pixels in changed]

    def spread(self, places: Places, values: np.ndarray) -> np.ndarray:
        whole = np.zeros(len(self.rows))
        whole[places] = values
        return whole

    def find_groups(self) -> list[Places]:
        from lesion.engine.evaluation.subgroups import find_groups

        found = [
            np.flatnonzero(np.array(values) == value)
            for values in find_groups(self.rows, self.pixels).values()
            for value in set(values)
        ]
        return [places for places in found if 10 <= self.truth[places].sum() <= len(places) - 10]

    def resample(self, places: Places, figures: Callable[[Places], object]) -> None:
        rng, members = np.random.default_rng(0), {}
        for i in places:
            members.setdefault(self.lesions[i], []).append(i)
        images = [np.array(each) for each in members.values()]
        for _ in range(COUNTED):
            figures(np.concatenate([images[k] for k in rng.integers(len(images), size=len(images))]))

    def figures(self, chosen: Places) -> Sequence[float]:
        from sklearn import metrics as sk

        p, t, none = self.p[chosen], self.truth[chosen], {"zero_division": 0}
        called = p >= self.manifest.threshold
        false, true, _ = sk.roc_curve(t, p)
        return [
            sk.roc_auc_score(t, p), sk.average_precision_score(t, p), np.trapezoid(np.maximum(true, 0.8) - 0.8, false),
            true[false <= 0.05].max(), 1 - false[true >= 0.95].min(), sk.recall_score(t, called, **none),
            sk.recall_score(t, called, pos_label=0, **none), sk.precision_score(t, called, **none),
            sk.precision_score(t, called, pos_label=0, **none), sk.f1_score(t, called, **none),
            sk.accuracy_score(t, called), sk.balanced_accuracy_score(t, called), sk.brier_score_loss(t, p),
            sk.log_loss(t, p), self.ece(p, t),
        ]  # fmt: skip

    def ece(self, p: np.ndarray, t: np.ndarray) -> float:
        bins = np.minimum((p * 15).astype(int), 14)
        return sum(abs((p - t)[bins == b].sum()) for b in range(15)) / len(p)

    def curves(self, chosen: Places) -> None:
        from sklearn import metrics as sk
        from sklearn.calibration import calibration_curve

        p, t, grid = self.p[chosen], self.truth[chosen], np.linspace(0, 1, 201)
        false, true, _ = sk.roc_curve(t, p)
        np.interp(grid, false, true)
        precision, recall, _ = sk.precision_recall_curve(t, p)
        np.interp(grid, recall[::-1], precision[::-1])
        for _ in ("before", "after"):
            calibration_curve(t, p, n_bins=15)
        for threshold in np.arange(1, 100) / 100:
            called = p >= threshold
            (called & t).mean() - (called & ~t).mean() * threshold / (1 - threshold)
        order = np.argsort(-np.abs(p - self.manifest.threshold))
        np.cumsum(((p >= self.manifest.threshold) != t)[order]) / np.arange(1, len(p) + 1)

    def diagnoses(self, chosen: Places) -> None:
        from sklearn import metrics as sk

        t, p = self.targets[chosen], self.all[chosen]
        sk.precision_recall_fscore_support(t, p.argmax(1), labels=range(p.shape[1]), zero_division=0)
        for k in range(p.shape[1]):
            if (t == k).any():
                sk.roc_auc_score(t == k, p[:, k])
                sk.average_precision_score(t == k, p[:, k])

    def referral(self, chosen: Places) -> None:
        p, t, sets = self.p[chosen], self.truth[chosen], self.manifest.conformal
        sure = (p < sets.malignant_from) | (p > sets.benign_to)
        called = p >= self.manifest.threshold
        for of, inside in ((t, p >= sets.malignant_from), (~t, p <= sets.benign_to), (t & sure, called), (t, called)):
            inside[of].mean()

    def few_figures(self, chosen: Places) -> None:
        from sklearn import metrics as sk

        p, t = self.p[chosen], self.truth[chosen]
        called = p >= self.manifest.threshold
        if t.any() and not t.all():
            sk.roc_auc_score(t, p)
        sk.recall_score(t, called, zero_division=0)
        sk.recall_score(t, called, pos_label=0, zero_division=0)

    def change(self, chosen: Places, after: np.ndarray) -> None:
        from sklearn import metrics as sk

        t = self.truth[chosen]
        sk.roc_auc_score(t, after[chosen]) - sk.roc_auc_score(t, self.p[chosen])
        ((after >= self.manifest.threshold) != (self.p >= self.manifest.threshold))[chosen].mean()
