"""Whether what is seen in service is distributed as validation was: population stability index over a window."""

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from lesion.manifest import Manifest, Reference
from lesion.taxonomy import BENIGN, MALIGNANT

TOO_FEW, STEADY, DRIFTED = "too few", "steady", "drifted"
LATEST = 5000  # images that show how many are of one lesion
FAR = range(20, 41)  # images apart: those of one lesion are nearer
Z = 3.0902  # 99.9 % of a normal distribution lie below it


def stability(counts: Sequence[int], shares: Sequence[float], images: int | None) -> float:
    """Population stability index of the counts of bins against their shares among `images`, >= 0.

    sum((a - e) * ln(a / e)) of the observed and expected shares (Siddiqi 2006, Credit Risk Scorecards; it is the
    Jeffreys divergence). Half an image is added to every bin on both sides, so that an empty one gives no infinity.
    """
    n, bins = sum(counts), len(counts)
    m = images or n
    observed = [(count + 0.5) / (n + bins / 2) for count in counts]
    expected = [(share * m + 0.5) / (m + bins / 2) for share in shares]
    return sum((a - e) * math.log(a / e) for a, e in zip(observed, expected, strict=True))


def chance(bins: int) -> float:
    """What the index stays below in 99.9 % of samples without drift, per 1/n + 1/m, for n images against m.

    Without drift the index is (1/n + 1/m) times a chi-squared variable with bins - 1 degrees of freedom
    (Yurdakul 2018, Statistical Properties of Population Stability Index), whose quantile is approximated after
    Wilson & Hilferty 1931.
    """
    k = max(bins - 1, 1)
    return float(k * (1 - 2 / (9 * k) + Z * math.sqrt(2 / (9 * k))) ** 3)


def measure_clustering(places: Sequence[int | None], bins: int) -> float:
    """By how much the counts of (n,) `places`, in the order of the images, vary more than those of as many lesions.

    The design effect of Rao & Scott (1981, doi:10.1080/01621459.1981.10477633), >= 1: images of one lesion or patient
    arrive one after the other and fall into the same bin. It is 1 + 2 (r1 + r2 + …), with r the correlation of bins at
    each distance, up to the first that chance explains. A correlation at all distances is no burst but a change within
    the window, so that at `FAR` is subtracted. Images without a bin are left out.
    """
    found = np.array([each for each in places[-LATEST:] if each is not None], np.intp)
    shares = np.bincount(found, minlength=bins) / max(1, len(found))
    alike = float(shares @ shares)
    if len(found) < 2 * FAR.stop or alike >= 1 - 1e-9:
        return 1.0

    def correlate(distance: int) -> float:
        return (float((found[distance:] == found[:-distance]).mean()) - alike) / (1 - alike)

    rest = max(0.0, sum(map(correlate, FAR)) / len(FAR))
    chance_alone = 2 / math.sqrt(len(found) * max(bins - 1, 1))  # two standard errors of a correlation
    effect = 1.0
    for distance in range(1, FAR.start):
        correlation = correlate(distance) - rest
        if correlation <= chance_alone:
            break
        effect += 2 * correlation
    return effect


@dataclass(slots=True)
class _Track:
    """The bins of one quantity."""

    reference: Reference
    column: int | None
    """Of the checks; None for the malignant probability."""
    counts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = [0] * len(self.reference.shares)

    def place(self, malignant: float, checks: Sequence[float]) -> int | None:
        """The bin of an image; None when its value is not a number."""
        value = malignant if self.column is None else float(checks[self.column])
        return bisect_right(self.reference.edges, value) if math.isfinite(value) else None


Entry = tuple[tuple[int | None, ...], str, str | None]  # bin in each track, prediction, decision


class Drift:
    """The latest images of one model, by bins of its reference. Every method is thread-safe."""

    def __init__(self, manifest: Manifest, window: int = 500, alert: float = 0.25) -> None:
        """Args: the model's manifest; window, images that are remembered; alert, the index that counts as drift."""
        columns = {MALIGNANT: None} | {check.name: column for column, check in enumerate(manifest.checks)}
        self._tracks = [_Track(each, columns[each.name]) for each in manifest.reference if each.name in columns]
        self._validation = _count_validation(manifest)
        self._threshold, self._size, self._alert = manifest.threshold, window, alert
        self._window: deque[Entry] = deque()
        self._predictions: Counter[str] = Counter()
        self._decisions: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, malignant: float, checks: Sequence[float], decision: str | None = None) -> None:
        """Count an image: its malignant probability, its (k,) measures in the order of the manifest, its decision.

        The effort does not depend on the window.
        """
        prediction = MALIGNANT if malignant >= self._threshold else BENIGN
        entry = (tuple(track.place(malignant, checks) for track in self._tracks), prediction, decision)
        with self._lock:
            self._window.append(entry)
            self._count(entry, 1)
            if len(self._window) > self._size:
                self._count(self._window.popleft(), -1)

    def report(self) -> dict[str, Any]:
        """The state of the window, as plain data.

        `images`; `status`, the worst of the quantities'; `quantities`: name → `psi` (None without an image), `expected`
        (its mean without drift), `images`, `independent` (as many independent images would tell as much),
        `needed` (of these, to tell `alert` from chance; None: validation was too small),
        `status`, and the bins' `edges`, `shares`, `reference`; `predictions` and `decisions`: name → share.
        """
        with self._lock:
            window = list(self._window)
            counts = [list(track.counts) for track in self._tracks]
            predictions, decisions = dict(self._predictions), dict(self._decisions)
        quantities = {
            track.reference.name: self._judge(track.reference, bins, [entry[0][column] for entry in window])
            for column, (track, bins) in enumerate(zip(self._tracks, counts, strict=True))
        }
        found = {each["status"] for each in quantities.values()}
        return {
            "window": self._size,
            "images": len(window),
            "alert": self._alert,
            "status": next((status for status in (DRIFTED, TOO_FEW) if status in found), STEADY),
            "quantities": quantities,
            "predictions": _shares(predictions),
            "decisions": _shares(decisions),
        }

    def _count(self, entry: Entry, step: int) -> None:
        bins, prediction, decision = entry
        for track, place in zip(self._tracks, bins, strict=True):
            if place is not None:
                track.counts[place] += step
        self._predictions[prediction] += step
        if decision is not None:
            self._decisions[decision] += step

    def _judge(self, reference: Reference, counts: Sequence[int], places: Sequence[int | None]) -> dict[str, Any]:
        n, bins, rest = sum(counts), len(counts), 1 / self._validation if self._validation else 0.0
        spare = self._alert / chance(bins) - rest  # that 1/n may take
        needed = math.ceil(1 / spare) if spare > 0 else None
        independent = n / measure_clustering(places, bins)
        psi = stability(counts, reference.shares, self._validation) if n else 0.0
        return {
            "psi": psi if n else None,
            "expected": (bins - 1) * (1 / independent + rest) if n else None,
            "images": n,
            "independent": independent,
            "needed": needed,
            "status": TOO_FEW if needed is None or independent < needed else DRIFTED if psi >= self._alert else STEADY,
            "edges": list(reference.edges),
            "shares": [count / n for count in counts] if n else None,
            "reference": list(reference.shares),
        }


def _count_validation(manifest: Manifest) -> int | None:
    """The images that the reference was taken from; None when the file does not say."""
    parity = manifest.provenance.get("parity")
    images = parity.get("images") if isinstance(parity, dict) else None
    return images if isinstance(images, int) and images > 0 else None


def _shares(counts: dict[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in sorted(counts.items()) if count}
