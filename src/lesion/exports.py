"""What an export found: the records of `lesion export`."""

from dataclasses import dataclass
from typing import Any

from lesion.records import Estimate


@dataclass(frozen=True, slots=True)
class ExportReport:
    """A model file that passed its checks."""

    model: str
    name: str
    bytes: int
    quantized: bool
    parity_images: int
    parity_max_difference: float
    """Largest difference of a probability between the reference and this file.

    The reference is torch; for int8 the fp32 file; for an ensemble the mean of its members' files.
    """
    parity_flips: int
    """Images whose decision differs from the reference."""
    validation: dict[str, float | None]
    latency_ms: float
    """Median milliseconds for one image of ready pixels, on this machine."""
    reference_latency_ms: float | None
    """The same for the reference file; None without one."""
    temperature: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Losses:
    """What a quantized file loses against the fp32 file on the same images; negative is better."""

    auroc: Estimate
    specificity: Estimate
    """Of the mean specificity at sensitivities from 0.8 to 1."""
    sensitivity: Estimate
    """At the specificity of the fp32 file's operating point."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A test of the chosen recipe on validation images of lesions that it was not chosen on."""

    images: int
    malignant_lesions: int
    losses: Losses
    shown: bool
    """Whether the file is shown to keep the limits: the upper ends of the intervals do."""
    refused: str | None
    """Why the file must not be shipped; None when it may."""
    doubt: str | None
    """What is not shown, in words; None when all is."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to quantize a model file, measured on this machine and on validation."""

    name: str
    bytes: int
    latency_ms: float
    """Median milliseconds for one image of ready pixels."""
    speedup: float
    """Against the fp32 file, timed before and after."""
    memory: int | None
    """Bytes at most in use of a process that loads it and answers once; None when it is clearly slower."""
    auroc_loss: Estimate
    """Against the fp32 file, on the images that the recipe is chosen on; negative is better."""
    validation: dict[str, float | None]
    """Figures on validation, calibrated anew."""
    max_difference: float | None
    """Largest difference of a probability from fp32; None, as all figures of answers, when it is clearly slower."""
    flips: int | None
    """Images whose decision differs from fp32."""
    front: bool
    """Whether no other is at least as fast, as small and as good."""
    refused: str | None
    """Why it must not be shipped; None when it may."""


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """What a search for a quantized model file found."""

    source: str
    chosen: str
    """Name of the candidate; "fp32" when none may replace it."""
    reason: str
    candidates: list[Candidate]
    exported: ExportReport | None
    """The file that was written, if any."""
    confirmation: Confirmation | None
    """Of the chosen candidate, or of the last one that was refused; None when none came so far."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """A model file that passed every check that needs no data, and what it says about itself."""

    model: str
    name: str
    """name@ and the first digits of the digest, as predictions carry it."""
    bytes: int
    sha256: str
    format: int
    """Of the manifest."""
    onnx: int
    """Version of ONNX's own format (IR)."""
    operators: dict[str, int]
    """Set of operators → version; "" is ONNX's own."""
    signature: str
    """"none"; "not checked" when there is one but no key to check it with; or "valid"."""
    size: int
    """Side of the square that the network sees, in pixels."""
    labels: list[str]
    malignant: list[str]
    threshold: float
    temperature: float
    self_test_difference: float
    """Of a probability here from the one recorded at export."""
    self_test_tolerance: float
    quantization: str | None
    """The recipe; None for fp32."""
    provenance: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model file, or PyTorch, needs on this machine."""

    engine: str
    """The file's name, or "PyTorch eager"."""
    memory: int | None
    """Bytes at most in use of a process that loads it and answers once; None where the system does not tell."""
    load_ms: float
    """From nothing to ready, imports not included."""
    file_ms: dict[str, float]
    """From an encoded image of 600×450 to its answer: "p50" and "p99"."""
    pixels_ms: dict[str, float]
    """The same for ready pixels."""
    images_per_second: dict[str, float]
    """By batch: of ready pixels, with all threads."""


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """How fast a model is on this machine."""

    model: str
    name: str
    size: int
    processor: str
    instructions: str
    """The best for 8-bit integers: "avx2", "avx512_vnni", …"""
    cores: int
    """That this process may use."""
    versions: dict[str, str]
    figures: list[Figures]
    """The file first, then its quantized twin and PyTorch, as far as they are at hand."""


@dataclass(frozen=True, slots=True)
class Member:
    """One model of an ensemble, by itself."""

    run: str
    model: str
    """Its identity, name@sha."""
    sha256: str
    bytes: int
    latency_ms: float
    """Median milliseconds for one image of ready pixels."""
    auroc: Estimate
    """On the images that the ensemble is calibrated on."""


@dataclass(frozen=True, slots=True)
class EnsembleReport:
    """Several models in one file: what it gains over the best of them, and what it costs."""

    exported: ExportReport
    members: list[Member]
    auroc: Estimate
    """As the members'."""
    best: str
    """Run of the member with the highest AUROC."""
    gain: Estimate
    """AUROC of the ensemble less that of the best member, on the same resamples of lesions."""
    slowdown: float
    """Times the milliseconds of the best member."""
    growth: float
    """Times its bytes."""
