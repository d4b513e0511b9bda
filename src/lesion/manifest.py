"""What a model file says about itself: all that a reader needs besides the graph."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, TypeVar

from lesion.errors import ArtifactError
from lesion.preprocess import PreprocessSpec
from lesion.taxonomy import Taxonomy

T = TypeVar("T")
FORMAT = 2
"""Grows when an old reader would misunderstand a new file, or a new reader an old one."""

# What a file may hold. An export stays far below: its manifest has some kilobytes, its self-test a tolerance of 0.001.
MAX_CHARACTERS = 2**20  # of the whole manifest
MAX_TEXT = 200  # characters of a name, a label or a flag
MAX_LABELS, MAX_CHECKS, MAX_EDGES = 256, 64, 1024
MAX_DEPTH = 16  # of lists and objects in the provenance
MAX_INTEGER = 2**63
MAX_TOLERANCE = 0.05
"""Largest tolerance of a self-test. Another processor's rounding differs by less than a thousandth; beyond some
hundredths a test no longer tells a wrong graph from a right one."""


@dataclass(frozen=True, slots=True)
class Conformal:
    """Class-conditional conformal sets: which of the two classes are compatible with an image's probability.

    Each class is in the set of at least `coverage` of the lesions of that class (Vovk 2012, arXiv:1209.2673).
    """

    coverage: float
    """The lesser of the two below."""
    malignant_from: float
    """"malignant" belongs to the set from this malignant probability on."""
    benign_to: float
    """"benign" belongs to the set up to this malignant probability."""
    malignant_coverage: float | None = None
    """Of the malignant lesions; None in a file from before each class had its own: it is `coverage`."""
    benign_coverage: float | None = None

    @property
    def goals(self) -> tuple[float, float]:
        """The shares of malignant and of benign lesions with their class in the set."""
        malignant, benign = self.malignant_coverage, self.benign_coverage
        return self.coverage if malignant is None else malignant, self.coverage if benign is None else benign


@dataclass(frozen=True, slots=True)
class Check:
    """One column of the graph's output `checks`: a measure of an image, and where the model's own images lie."""

    name: str
    low: float | None
    """An image below it is flagged `low_flag`; None: none is too low."""
    high: float | None
    low_flag: str
    high_flag: str

    def flag(self, value: float) -> str | None:
        """What an image with this value is flagged for, if anything. Not a number is out of every range."""
        if self.low is not None and not value >= self.low:
            return self.low_flag
        if self.high is not None and not value <= self.high:
            return self.high_flag
        return None


@dataclass(frozen=True, slots=True)
class Reference:
    """How a quantity was distributed on validation; what is seen in service is compared with it."""

    name: str
    """"malignant", for its probability, or a check."""
    edges: tuple[float, ...]
    """Inner edges of the bins, rising."""
    shares: tuple[float, ...]
    """Share of each bin, one more than edges."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the model must answer to the drawn test image (`inference.predictor.draw_test_image`)."""

    probabilities: tuple[float, ...]
    tolerance: float
    """Largest allowed difference of a probability; in [0, MAX_TOLERANCE]."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Without its own default, a missing entry is an error."""

    name: str
    taxonomy: Taxonomy
    preprocess: PreprocessSpec
    temperature: float
    """Logits are divided by it before the softmax; > 0 (Guo et al. 2017, arXiv:1706.04599)."""
    threshold: float
    """Malignant when the malignant probability is at least this; in [0, 1]."""
    conformal: Conformal
    checks: tuple[Check, ...]
    """In the order of the graph's output `checks`."""
    reference: tuple[Reference, ...]
    self_test: SelfTest
    provenance: dict[str, Any]
    """Recorded facts: version, run, configuration and split fingerprints, validation figures, parity."""
    format: int = FORMAT

    def dumps(self) -> str:
        """The manifest as JSON."""
        data = asdict(self)
        if not self.preprocess.reduce:  # a file from before it was there stays the same when it is packed anew
            del data["preprocess"]["reduce"]
        data["conformal"] = {name: value for name, value in data["conformal"].items() if value is not None}
        return json.dumps(data, allow_nan=False, sort_keys=True)

    @classmethod
    def loads(cls, text: str) -> "Manifest":
        """The inverse of `dumps`; ArtifactError when something is missing, wrong or of another format.

        All texts can be encoded as UTF-8, all numbers are finite, and the size is bounded: whatever is accepted can be
        printed, logged, and written as JSON and CSV.
        """
        if len(text) > MAX_CHARACTERS:
            raise ArtifactError(f"the manifest has {len(text)} characters, at most {MAX_CHARACTERS} expected")
        try:
            data = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_to_dict)
            _require_format(data["format"])
            manifest = cls(
                name=_text(data["name"]),
                taxonomy=Taxonomy(
                    *(_many(data["taxonomy"][key], _text, MAX_LABELS) for key in ("labels", "malignant"))
                ),
                preprocess=PreprocessSpec.of(data["preprocess"]),
                temperature=_number(data["temperature"]),
                threshold=_number(data["threshold"]),
                conformal=_read_conformal(data["conformal"]),
                checks=_many(data["checks"], _read_check, MAX_CHECKS),
                reference=_many(data["reference"], _read_reference, MAX_CHECKS + 1),
                self_test=SelfTest(
                    _many(data["self_test"]["probabilities"], _number, MAX_LABELS),
                    _number(data["self_test"]["tolerance"]),
                ),
                provenance=_read_provenance(data["provenance"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise ArtifactError(f"the model file's manifest is not understood: {error!r:.300}") from error
        manifest._check()
        return manifest

    def _check(self) -> None:
        conformal = self.conformal
        sets = (conformal.coverage, *conformal.goals, conformal.malignant_from, conformal.benign_to)
        shares = (self.threshold, *sets)
        if not self.temperature > 0 or not all(0 <= share <= 1 for share in shares):
            raise ArtifactError(
                f"the manifest has temperature {self.temperature}, threshold {self.threshold} and {conformal}; "
                "a positive temperature and shares in [0, 1] expected"
            )
        labels, malignant = self.taxonomy.labels, self.taxonomy.malignant_outputs
        one_each = len(set(labels)) == len(labels) == len(self.self_test.probabilities)
        if not one_each or not 0 < len(malignant) < len(labels):
            raise ArtifactError("the manifest's labels, malignant labels and self-test do not fit together")
        test = self.self_test
        if not all(0 <= p <= 1 for p in test.probabilities) or abs(sum(test.probabilities) - 1) > MAX_TOLERANCE:
            raise ArtifactError("the manifest's self-test has no probabilities that add up to 1")
        if not 0 <= test.tolerance <= MAX_TOLERANCE:
            raise ArtifactError(
                f"the manifest's self-test has a tolerance of {test.tolerance:g}, at most {MAX_TOLERANCE:g} expected"
            )
        if len({check.name for check in self.checks}) < len(self.checks) or not all(map(_is_sound, self.checks)):
            raise ArtifactError(f"the manifest's checks do not fit together: {self.checks!s:.300}")
        for each in self.reference:
            fits = len(each.shares) == len(each.edges) + 1 and all(0 <= share <= 1 for share in each.shares)
            if not fits or not all(a < b for a, b in pairwise(each.edges)):
                raise ArtifactError(f"the manifest's reference of {each.name!r} has bins that do not fit together")


def _require_format(found: int) -> None:
    if found != FORMAT:
        newer = found > FORMAT
        raise ArtifactError(
            f"the model file has format {found}, this lesion reads format {FORMAT}",
            hint=("upgrade lesion, or " if newer else "") + "export the model again with this version",
        )


def _is_sound(check: Check) -> bool:
    ordered = check.low is None or check.high is None or check.low <= check.high
    return ordered and (check.low is None or check.low_flag != "") and (check.high is None or check.high_flag != "")


def _read_conformal(data: dict[str, Any]) -> Conformal:
    coverage, malignant_from, benign_to = (_number(data[key]) for key in ("coverage", "malignant_from", "benign_to"))
    own = (_number(data[key]) if key in data else None for key in ("malignant_coverage", "benign_coverage"))
    return Conformal(coverage, malignant_from, benign_to, *own)


def _read_check(data: dict[str, Any]) -> Check:
    low, high = (None if data[key] is None else _number(data[key]) for key in ("low", "high"))
    return Check(_text(data["name"]), low, high, _text(data["low_flag"]), _text(data["high_flag"]))


def _read_reference(data: dict[str, Any]) -> Reference:
    edges, shares = _many(data["edges"], _number, MAX_EDGES), _many(data["shares"], _number, MAX_EDGES + 1)
    return Reference(_text(data["name"]), edges, shares)


def _read_provenance(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise TypeError(f"an object expected, got {data!r}")
    _require_portable(data, MAX_DEPTH)
    return data


def _require_portable(value: Any, depth: int) -> None:
    """ValueError for JSON that other programs may not read: too deep, too large a number, half a surrogate pair."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is too large")
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ValueError("an integer is too large")
    elif isinstance(value, list | dict):
        if depth == 0:
            raise ValueError(f"more than {MAX_DEPTH} levels")
        for each in [*value, *(value.values() if isinstance(value, dict) else ())]:
            _require_portable(each, depth - 1)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """ValueError for a key that occurs twice: readers of JSON take either."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _many(values: Any, read: Callable[[Any], T], most: int) -> tuple[T, ...]:
    if not isinstance(values, list) or len(values) > most:
        raise TypeError(f"a list of at most {most} expected, got {values!r}")
    return tuple(map(read, values))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise TypeError(f"a printable text of at most {MAX_TEXT} characters expected, got {value!r}")
    return value


def _number(value: Any) -> float:
    # To Python, True is a number, and so is what JSON's 1e999 becomes.
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"a finite number expected, got {value!r}")
    return float(value)
