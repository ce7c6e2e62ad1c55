"""Damage to graphs that other engines run: to the parts of an ONNX graph, and to the text of OpenVINO's."""

import re
from typing import Any

import numpy as np

from .damage import EDGES, damaged_bytes


def damaged_onnx(data: bytes, generator: np.random.Generator) -> bytes:
    """Return a graph in ONNX with one to three changes, which a program can read as protobuf, though it may make no sense."""
    import onnx

    model = onnx.load_from_string(data)
    for _ in range(generator.integers(1, 4)):
        change_graph(model.graph, generator)
    return model.SerializeToString()


def change_graph(graph: Any, generator: np.random.Generator) -> None:
    """Make one change in place: of a node, its attributes and names, a tensor, or an input or output of the graph."""
    node, other = some(graph.node, generator), some(graph.node, generator)
    tensor, kind = some(graph.initializer, generator), generator.integers(10)
    if kind == 0:
        graph.node.remove(node)
    elif kind == 1:
        node.op_type = other.op_type
    elif kind == 2 and node.input and other.output:
        node.input[int(generator.integers(len(node.input)))] = some(other.output, generator)
    elif kind == 3 and node.output and other.output:
        node.output[0] = other.output[0]
    elif kind == 4 and node.attribute:
        change_attribute(some(node.attribute, generator), generator)
    elif kind == 5:
        tensor.dims.extend([int(generator.choice([0, 1, 7, 2**31]))])
    elif kind == 6:
        tensor.data_type = int(generator.integers(0, 24))
    elif kind == 7:
        tensor.raw_data = damaged_bytes(tensor.raw_data, generator)
    elif kind == 8:
        tensor.raw_data = np.full(
            len(tensor.raw_data) // 4, generator.choice([np.nan, np.inf, 3e38]), "float32"
        ).tobytes()
    else:
        value = some([*graph.input, *graph.output], generator)
        value.name = str(generator.choice([value.name, "", "other"]))
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_value = int(generator.choice([0, 1, 3, 2**31]))


def change_attribute(attribute: Any, generator: np.random.Generator) -> None:
    """Change a whole number of a node, such as a stride or an axis, or its name."""
    if attribute.ints:
        attribute.ints[int(generator.integers(len(attribute.ints)))] = some(EDGES, generator)
    elif attribute.HasField("i"):
        attribute.i = some(EDGES, generator)
    else:
        attribute.name = "other"


def damaged_xml(text: str, generator: np.random.Generator) -> bytes:
    """Return OpenVINO's description of a graph with one to three changes: of quoted values, or, one time in four, of bytes."""
    if generator.random() < 0.25:
        return damaged_bytes(text.encode(), generator)
    for _ in range(generator.integers(1, 4)):
        values = list(re.finditer(r'"([^"]*)"', text))
        value, other = some(values, generator), some(values, generator)
        odd = str(some(EDGES, generator)) if generator.random() < 0.5 else other[1]
        text = text[: value.start(1)] + odd + text[value.end(1) :]
    return text.encode()


def some(values: Any, generator: np.random.Generator) -> Any:
    """Draw one of several values."""
    return values[int(generator.integers(len(values)))]
