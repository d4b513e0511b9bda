"""The int8 twin of a model file: static, per channel, calibrated on training images, checked on validation."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lesion.artifact import Artifact
from lesion.config.load import load_config
from lesion.data.pixels import decode_rows
from lesion.data.split import open_dataset
from lesion.engine.export import Validation, compare, make_artifact, measure_latency, run_batches, save
from lesion.errors import CheckFailed
from lesion.inference.predictor import Predictor
from lesion.progress import Progress, Silent
from lesion.records import ExportReport
from lesion.run import Run

RECIPE = "static int8, QDQ, weights per channel, activations min-max; convolutions and linear layers"


def quantize_run(run: Run, progress: Progress | None = None) -> ExportReport:
    """Quantize the run's model.onnx to model.int8.onnx.

    Temperature and operating point are fitted anew: rounding shifts probabilities. Raises CheckFailed when
    validation AUROC drops by more than `export.max_auroc_loss`; the fp32 file is never touched.
    """
    config = load_config([run.config])
    dataset = open_dataset(config.data)
    source = Predictor(Artifact.read(run.model))
    rows = dataset.members["train"]
    step = max(1, len(rows) // config.export.calibration_images)  # spread over the whole split
    chosen = rows[::step][: config.export.calibration_images]
    spec = source.manifest.preprocess
    calibration = decode_rows(chosen, spec, config.data.workers, progress or Silent(), "decode calibration")
    validation = Validation.of(dataset, config, progress or Silent())

    facts = {"recipe": RECIPE, "calibration_images": len(chosen), "source": source.artifact.digest}
    kept = {key: value for key, value in source.manifest.provenance.items() if key not in ("parity", "validation")}
    graph = quantize_graph(source.artifact.graph, calibration)
    artifact = make_artifact(graph, config, validation, {**kept, "quantization": facts})
    _check_auroc(source.artifact, artifact, config.export.max_auroc_loss)
    reference = run_batches(source, validation.pixels)
    # int8 rounds: some probabilities move and some decisions flip. Both are reported; AUROC is the gate.
    return save(artifact, run.quantized, compare(artifact, reference, validation), measure_latency(source))


def quantize_graph(graph: bytes, calibration: npt.NDArray[np.uint8]) -> bytes:
    """The int8 graph with the ranges seen on `calibration`, uint8 (n, size, size, 3)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, npt.NDArray[np.uint8]]] = ({"pixels": row[None]} for row in calibration)

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        paths = [Path(folder) / name for name in ("fp32.onnx", "prepared.onnx", "int8.onnx")]
        paths[0].write_bytes(graph)
        quant_pre_process(paths[0], paths[1], skip_symbolic_shape=True)
        quantize_static(
            paths[1],
            paths[2],
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "GlobalAveragePool"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return paths[2].read_bytes()


def _check_auroc(before: Artifact, after: Artifact, limit: float) -> None:
    old, new = (artifact.manifest.provenance["validation"]["auroc"] for artifact in (before, after))
    if old - new > limit:
        raise CheckFailed(
            f"int8 lowers the validation AUROC from {old:.4f} to {new:.4f}, at most {limit} less expected; "
            "the fp32 file stays the model",
            hint="use the fp32 file, or allow more with export.max_auroc_loss",
        )


class _quiet:  # noqa: N801 - used like a function
    """onnxruntime's quantizer advises through the root logger; what matters of it is checked here."""

    def __enter__(self) -> None:
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)
