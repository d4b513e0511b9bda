"""What crosses the layers: frozen records, and their one JSON shape."""

import json
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

SCHEMA = 1  # of every JSON document that lesion prints; grows when a field changes its meaning or goes away
REFER = "refer"  # the third answer: a person should look
NOTICE = "Research software, not a medical device: never use it to decide about a patient."


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one image; the same record from Python, `lesion predict --json` and `POST /predict`."""

    source: str
    """The file's name, or "upload"."""
    prediction: str
    """"malignant" or "benign": malignant when its probability reaches the model's operating point."""
    confidence: float
    """The probability of `prediction`, in [0, 1]; below 0.5 when the operating point lies below it."""
    decision: str
    """`prediction`, or "refer" when the model should not be asked alone."""
    flags: tuple[str, ...]
    """Why to refer: "uncertain", or what is unusual about the image; empty when there is no reason."""
    class_probabilities: dict[str, float]
    """Calibrated probabilities of "benign" and "malignant"; they add up to 1."""
    diagnosis_probabilities: dict[str, float] | None
    """Calibrated probability per diagnosis; None when the model knows only the two classes."""
    model: str
    """Which file answered: its name and the first 12 digits of its SHA-256, name@sha."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; all three None when the data cannot give it."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """A line with the 95 % interval of each of its points; None where the data give none."""

    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class SynthReport:
    """A synthetic dataset that was drawn."""

    root: str
    images: int
    lesions: int
    seed: int


@dataclass(frozen=True, slots=True)
class ServeReport:
    """A server that listens."""

    url: str
    model: str
    """name@sha of the file that answers."""


@dataclass(frozen=True, slots=True)
class DataReport:
    """A dataset and its split."""

    root: str
    processed: str
    images: int
    lesions: int
    fingerprint: str
    """Digest of the split: the same on every machine for the same metadata, seed and shares."""
    splits: dict[str, dict[str, int]]
    """split → {"images": n, "lesions": n, and images per diagnosis}."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in a dataset that is wrong, or worth a look."""

    kind: str
    """Which of the kinds of docs/audit.md."""
    severity: str
    """"error" (must not be trained on), "warning" or "note"."""
    title: str
    """The kind in words."""
    images: tuple[str, ...]
    """Image ids, or the names of files that no row names."""
    message: str
    similarity: float | None
    """Of near-duplicates, up to 1; None for other kinds."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found among the images that are not in quarantine."""

    root: str
    processed: str
    images: int
    """Rows that were examined."""
    lesions: int
    quarantined: int
    """Images in quarantine, which were not examined."""
    counts: dict[str, int]
    """Kind → findings, errors first."""
    findings: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        """What must not be trained on."""
        return [finding for finding in self.findings if finding.severity == "error"]


@dataclass(frozen=True, slots=True)
class TrainReport:
    """A finished training run."""

    run: str
    model: str
    tier: str
    parameters: int
    epochs: int
    best_epoch: int
    best_checkpoint: str
    seconds: float
    images_per_second: float
    """Training images seen per second of the fit, validation included."""
    validation: dict[str, float | None]
    """Figures of the exported file on the validation split."""


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """What a training would do and cost."""

    data: DataReport
    training_images: int
    """After data.subsample."""
    images_fingerprint: str
    """Digest of the content of all images."""
    tier: str
    parameters: int
    recipe: list[str]
    """How the network is trained, in words."""
    device: str
    precision: str
    batch_size: int
    steps_per_epoch: int
    epochs: int
    """At most; without those that a run to resume has finished."""
    steps: int
    seconds_per_epoch: float
    """From a few measured steps, validation included."""
    seconds: float
    """Of all epochs; early stopping may end sooner."""
    peak_memory: int | None
    """Bytes at most in use during those steps: of the accelerator, or of the process without one; None if unknown."""
    run: str
    """The folder that everything would be written to."""
    needed: int
    """Bytes of disk for the checkpoints, approximately."""
    free: int
    """Bytes of disk that are free there."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """A dataset that was brought into HAM10000's layout, and what of its source was not."""

    source: str
    root: str
    linked: bool
    """Whether the images are links into the source rather than copies."""
    images: int
    lesions: int
    own_lesions: int
    """Images without a lesion id: each counts as a lesion of its own."""
    diagnoses: dict[str, int]
    """Images per diagnosis."""
    labels: dict[str, str]
    """Label of the source → diagnosis it became, or "skip"."""
    left_out: dict[str, list[str]]
    """Why → which files or rows of the source are not in the dataset."""
    renamed: dict[str, str]
    """Image id → file, where the id is not just the file's name."""
    blanked: dict[str, int]
    """Column → how many values could not be understood and were left empty."""
    not_understood: dict[str, list[str]] = field(default_factory=dict)
    """Column → these values, each once, the most frequent 20."""


@dataclass(frozen=True, slots=True)
class StatsReport:
    """What is in a dataset."""

    root: str
    images: int
    lesions: int
    malignant: int
    """Images whose diagnosis counts as malignant."""
    groups: dict[str, dict[str, dict[str, int]]]
    """What is told apart (diagnosis, age …) → value → {"images", "lesions", "malignant"}; missing is "unknown"."""
    images_per_lesion: dict[str, int]
    """Images of a lesion → how many lesions have that many."""
    missing: dict[str, int]
    """Column → images without a value in it; "image file" → images that are listed but absent."""
    written: list[str]
    """Files that were drawn."""


@dataclass(frozen=True, slots=True)
class DownloadedFile:
    """One file of a download."""

    name: str
    url: str
    """Where it is asked for first."""
    bytes: int | None
    """None where its publisher gives no size."""
    place: str
    """What it becomes in the dataset."""
    done: bool
    """Whether it is there."""


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """A dataset that was downloaded, or would be."""

    root: str
    dataset: str
    title: str
    source: str
    """The host that gave it, or would be asked first."""
    licence: str
    subset: int | None
    """How many images were asked for; None: all."""
    finished: bool
    files: list[DownloadedFile]
    images: int
    """Images that are there."""
    received: int
    """Bytes that came over the network in this call."""
    needed: int
    """Bytes of disk that are still needed, approximately, archives included."""
    free: int
    """Bytes of disk that are free."""
    seconds: float
    record: str
    """The file that says where everything came from and when the licence was accepted."""


def to_dict(record: Any) -> dict[str, Any]:
    """The record as plain data; fields that are None are left out of a Prediction."""
    if not is_dataclass(record) or isinstance(record, type):
        raise TypeError(f"not a record: {record!r}")
    data = asdict(record)
    if isinstance(record, Prediction) and record.diagnosis_probabilities is None:
        del data["diagnosis_probabilities"]
    return data


def to_json(record: Any, **more: Any) -> str:
    """One JSON document: {"schema": 1, …record…}. NaN is refused with ValueError: it is not JSON."""
    body = record if isinstance(record, dict) else to_dict(record)
    return json.dumps({"schema": SCHEMA, **body, **more}, indent=2, allow_nan=False)
