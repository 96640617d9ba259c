"""A student package with the default recipe and a network whose answer depends on the image; made without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from pipeline.deployment.package import INPUT, OUTPUT, Package, read_package
from tests.deployment.made_package import CLASSES, made_package, manifest
from transforms.recipe import StudentInput

RECIPE = StudentInput()


def tiny_onnx(
    classes: int = len(CLASSES), *, shape: tuple[int, ...] = RECIPE.shape, output: str = OUTPUT, bias: float = 0.0
) -> bytes:
    """Mean over the plane, per phase and slice, times a matrix: ``(cases, 2, slices, rows, cols)`` to logits."""
    features = shape[0] * shape[1]
    constants = {
        "axes": np.array([3, 4]),
        "flat": np.array([-1, features]),
        "weights": np.random.default_rng(0).normal(size=(features, classes)).astype(np.float32),
        "bias": np.array([bias], np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", [INPUT, "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], [output]),
    ]
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["cases", *shape])
    logits = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["cases", classes])
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", [image], [logits], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def tiny_package(folder: Path, *, onnx: bytes | None = None, **changes: Any) -> Package:
    """Write a package and read it.

    Args:
        folder: made.
        onnx: the network; the tiny one by default.
        **changes: of the manifest.
    """
    said = manifest(recipe=RECIPE.to_dict(), recipe_digest=RECIPE.digest, input_shape=list(RECIPE.shape), **changes)
    return read_package(made_package(folder, said, onnx=onnx or tiny_onnx()))
