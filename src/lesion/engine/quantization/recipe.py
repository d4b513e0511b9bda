"""The ways to quantize that the search tries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from lesion.machine import EXACT

PRODUCTS = ("Conv", "Gemm", "MatMul")
# ReLU costs nothing behind a convolution, as the lower end of its range; left out, it is computed in floating point.
CONVOLUTIONS = (*PRODUCTS, "Relu")
ARITHMETIC = (*CONVOLUTIONS, "Add", "Mul", "Sigmoid", "GlobalAveragePool", "ReduceMean", "MaxPool", "Concat")
Nodes = Sequence[onnx.NodeProto]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to quantize a graph: which nodes, which ranges, which types."""

    name: str
    operators: tuple[str, ...] = ARITHMETIC
    leave: Callable[[Nodes], set[str]] = lambda nodes: set()
    """Names of nodes that stay in floating point."""
    ranges: str = "MinMax"
    """How ranges of activations are found: MinMax, Entropy or Percentile (Wu et al. 2020, arXiv:2004.09602)."""
    seven_bits: bool = False
    """Weights of 7 bits, whose products never overflow 16 bits."""
    unsigned: bool = False
    """Weights in uint8, which processors widen before they multiply: no overflow either, but half the speed."""
    weights_only: bool = False
    """Weights are stored in int8 and computed with in floating point: a quarter of the file, the same speed."""


def leave_depthwise(nodes: Nodes) -> set[str]:
    """Convolutions of one channel each: little to compute, much to convert."""
    return {node.name for node in nodes if node.op_type == "Conv" and _group(node) > 1}


def leave_squeezes(nodes: Nodes) -> set[str]:
    """Squeeze-and-excitation: means over all positions, and the convolutions of one position behind them."""
    found: set[str] = set()
    reached = {name for node in nodes if node.op_type in ("ReduceMean", "GlobalAveragePool") for name in node.output}
    for node in nodes:
        if node.op_type in ("ReduceMean", "GlobalAveragePool"):
            found.add(node.name)
        elif reached & {*node.input} and node.op_type in ("Conv", "Relu", "Sigmoid", "Mul"):
            found.add(node.name)
            # The product with the gate is the end of it.
            reached |= {*node.output} if node.op_type != "Mul" or _is_swish(node, nodes) else set()
    return found


def leave_ends(nodes: Nodes) -> set[str]:
    """The first convolution and the layers of the head, which carry the most information per value."""
    convolutions = [node.name for node in nodes if node.op_type == "Conv"]
    return {*convolutions[:1], *(node.name for node in nodes if node.op_type in ("Gemm", "MatMul"))}


def leave_first_half(nodes: Nodes) -> set[str]:
    """Everything before the middle convolution, where images are large and channels few."""
    return _split(nodes)[0]


def leave_second_half(nodes: Nodes) -> set[str]:
    """Everything from the middle convolution on."""
    return _split(nodes)[1]


RECIPES = (
    Recipe("int8"),
    Recipe("int8, convolutions only", operators=CONVOLUTIONS),
    Recipe("int8, percentile ranges", ranges="Percentile"),
    Recipe("int8, entropy ranges", ranges="Entropy"),
    Recipe("int8, but depthwise", leave=leave_depthwise),
    Recipe("int8, but squeeze-and-excitation", leave=leave_squeezes),
    Recipe("int8, but first and last layer", leave=leave_ends),
    Recipe("int8, second half", leave=leave_first_half),
    Recipe("int8, first half", leave=leave_second_half),
    Recipe("int8, 7-bit weights", seven_bits=True),
    Recipe("int8, 7-bit weights, but first and last layer", leave=leave_ends, seven_bits=True),
    Recipe("int8, 7-bit weights, percentile ranges", ranges="Percentile", seven_bits=True),
    Recipe("int8, 7-bit weights, second half", leave=leave_first_half, seven_bits=True),
    Recipe("int8, unsigned weights", unsigned=True),
    Recipe("int8, unsigned weights, but first and last layer", leave=leave_ends, unsigned=True),
    Recipe("int8 weights only", operators=PRODUCTS, weights_only=True),
)


def choose_recipes(instructions: str) -> list[Recipe]:
    """Those that make sense for a processor's `instructions`, as `machine.find_instructions` calls them.

    Without products of 8 bits into 32, as VNNI has, signed weights of 8 bits overflow: the answers get worse there and
    there alone. What avoids it is no use elsewhere.
    """
    return [each for each in RECIPES if not (instructions in EXACT and (each.seven_bits or each.unsigned))]


def _group(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _is_swish(node: onnx.NodeProto, nodes: Nodes) -> bool:
    """Whether this product is x · sigmoid(x): one of its factors is the sigmoid of the other."""
    gates = {name: each.input[0] for each in nodes if each.op_type == "Sigmoid" for name in each.output}
    a, b = node.input
    return bool(gates.get(a) == b or gates.get(b) == a)


def _split(nodes: Nodes) -> tuple[set[str], set[str]]:
    places = [at for at, node in enumerate(nodes) if node.op_type == "Conv"]
    middle = places[len(places) // 2]
    return {node.name for node in nodes[:middle]}, {node.name for node in nodes[middle:]}
