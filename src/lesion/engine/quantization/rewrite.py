"""A graph to its quantized twin, by a recipe."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from lesion.engine.quantization.recipe import PRODUCTS, Recipe
from lesion.files import temporary_folder

Pixels = npt.NDArray[np.uint8]
MOST_FOR_HISTOGRAMS = 64  # images; a histogram of every activation is kept of each


def quantize_graph(graph: bytes, calibration: Pixels, recipe: Recipe) -> bytes:
    """The quantized graph, with ranges of activations as seen on `calibration`, uint8 (n, size, size, 3).

    Only what the logits need is quantized: the checks compare images with the training images, whose limits are fine,
    and heat maps are computed on demand.
    """
    if recipe.weights_only:
        return _store_weights(graph)
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, pixels: Pixels) -> None:
            self.feeds: Iterator[dict[str, Pixels]] = ({"pixels": row[None]} for row in pixels)

        def get_next(self) -> dict[str, Pixels] | None:
            return next(self.feeds, None)

    few = recipe.ranges != "MinMax"
    with temporary_folder() as folder, warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        paths = [folder / name for name in ("fp32.onnx", "prepared.onnx", "int8.onnx")]
        paths[0].write_bytes(graph)
        quant_pre_process(paths[0], paths[1], skip_symbolic_shape=True)
        nodes = find_ancestors(onnx.load(paths[1]), "logits")
        left = recipe.leave(nodes)
        quantize_static(
            paths[1],
            paths[2],
            Reader(calibration[:MOST_FOR_HISTOGRAMS] if few else calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(recipe.operators),
            nodes_to_quantize=[node.name for node in nodes if node.name not in left],
            per_channel=True,
            reduce_range=recipe.seven_bits,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8 if recipe.unsigned else QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, recipe.ranges),
            extra_options={"WeightSymmetric": True},
        )
        return paths[2].read_bytes()


def find_ancestors(model: onnx.ModelProto, output: str) -> list[onnx.NodeProto]:
    """The nodes that `output` needs, in the order of the graph, each with a name."""
    needed, found = {output}, []
    for at, node in reversed(list(enumerate(model.graph.node))):
        if needed & {*node.output}:
            needed |= {*node.input}
            node.name = node.name or f"{node.op_type}_{at}"
            found.append(node)
    return found[::-1]


def _store_weights(graph: bytes) -> bytes:
    """Keep the weights of convolutions and linear layers in int8, per output channel.

    They become floating point again by a Cast and a Mul, which onnxruntime computes once, when it loads the file. A
    DequantizeLinear it would keep, and compute for each image.
    """
    model = onnx.ModelProto.FromString(graph)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    wanted = {node.input[1]: _find_channels(node) for node in model.graph.node if node.op_type in PRODUCTS}
    nodes = []
    for name, axis in wanted.items():
        if name not in weights or weights[name].data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weights[name])
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = np.maximum(np.abs(values).max(axis=others), 1e-12) / 127
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        small = np.rint(values / scale.reshape(shape)).astype(np.int8)
        model.graph.initializer.remove(weights[name])
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(small, f"{name}.int8"),
                numpy_helper.from_array(scale.reshape(shape).astype(np.float32), f"{name}.scale"),
            ]
        )
        nodes.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.whole"], to=onnx.TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name]))
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    return bytes(model.SerializeToString())


def _find_channels(node: onnx.NodeProto) -> int:
    """The axis of the output channels in the weights."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else 1


@contextmanager
def _quiet() -> Iterator[None]:
    """What onnxruntime's quantizer advises through the root logger and prints: what matters of it is measured here."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
