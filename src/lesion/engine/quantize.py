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
from lesion.data.split import open_dataset
from lesion.engine.export import make_artifact, save
from lesion.engine.parity import compare, measure_latency, run_batches
from lesion.engine.validation import Validation, sample_training
from lesion.errors import CheckFailed
from lesion.inference.predictor import Predictor
from lesion.metrics import estimate_auroc_loss
from lesion.progress import Progress, Silent
from lesion.records import Estimate, ExportReport
from lesion.run import Run

RECIPE = "static int8, QDQ, weights per channel, activations min-max; convolutions and linear layers"


def quantize_run(run: Run, progress: Progress | None = None) -> ExportReport:
    """Quantize the run's model.onnx to model.int8.onnx.

    Temperature and operating point are fitted anew: rounding shifts probabilities. Raises CheckFailed when
    validation AUROC drops by more than `export.max_auroc_loss` and chance does not explain it; the fp32 file is
    never touched.
    """
    show = progress or Silent()
    config = load_config([run.config])
    source = Predictor(Artifact.read(run.model))
    dataset = open_dataset(config.data, show)
    dataset.require_split(source.manifest.provenance.get("split"), run.model)
    calibration = sample_training(dataset, config, config.export.calibration_images, show)
    validation = Validation.of(dataset, config, show)

    facts = {"recipe": RECIPE, "calibration_images": len(calibration), "source": source.artifact.digest}
    kept = {key: value for key, value in source.manifest.provenance.items() if key not in ("parity", "validation")}
    graph = quantize_graph(source.artifact.graph, calibration)
    artifact = make_artifact(graph, config, validation, {**kept, "quantization": facts})

    before, after = source.malignant(validation.pixels), Predictor(artifact).malignant(validation.pixels)
    loss = estimate_auroc_loss(before, after, validation.malignant, validation.lesions)
    require_auroc(loss, config.export.max_auroc_loss)
    # int8 rounds: some probabilities move and some decisions flip. Both are reported; AUROC is the gate.
    parity = compare(artifact, run_batches(source, validation.pixels).logits, validation)
    return save(artifact, run.quantized, parity, measure_latency(source))


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


def require_auroc(loss: Estimate, limit: float) -> None:
    """CheckFailed when AUROC is lower by more than `limit`, unless the 95 % interval of the loss includes none.

    On a hundred images a few swapped pairs already exceed any sensible limit; such a file is no proven worse.
    """
    if loss.value is not None and loss.value > limit and loss.low is not None and loss.low > 0:
        raise CheckFailed(
            f"int8 lowers the validation AUROC by {loss.value:.4f} (95 % interval {loss.low:.4f} to {loss.high:.4f}), "
            f"at most {limit} expected; the fp32 file stays the model",
            hint="use the fp32 file, or allow more with export.max_auroc_loss",
        )


class _quiet:  # noqa: N801 - used like a function
    """onnxruntime's quantizer advises through the root logger; what matters of it is checked here."""

    def __enter__(self) -> None:
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)
