"""What an export found: the records of `lesion export`."""

from dataclasses import dataclass

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
    """Largest difference of a probability between the reference (torch; for int8 the fp32 file) and this file."""
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
class Candidate:
    """One way to quantize a model file, measured on this machine and on validation."""

    name: str
    bytes: int
    latency_ms: float
    """Median milliseconds for one image of ready pixels."""
    speedup: float
    """Against the fp32 file, timed before and after."""
    memory: int | None
    """Bytes at most in use of a process that loads it and answers once."""
    auroc_loss: Estimate
    """Against the fp32 file; negative is better."""
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
