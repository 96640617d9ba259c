"""A trained network as ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.deployment.package import INPUT, OUTPUT
from pipeline.deployment.session import cpu_session

TOLERANCE = 1e-4  # between the logits of torch and of onnxruntime


def onnx_model(network: nn.Module, images: Tensor) -> bytes:
    """Write a classifier as ONNX and check it against the original.

    Args:
        network: takes ``(B, …, rows, cols)``, gives logits ``(B, C)``; in evaluation mode.
        images: ``(B, …, rows, cols)`` on the CPU, two cases at least, to check it with.

    Returns:
        The file's bytes: input ``image``, output ``logits``, any number of cases at once. The same network gives the
        same bytes, and nothing in them tells on which machine it was written.

    Raises:
        ValueError: if the network is in training mode, fewer than two cases are given, or a logit differs by more than
            1e-4.
    """
    if network.training:
        raise ValueError("a network must be in evaluation mode to be written as ONNX; call network.eval()")
    if len(images) < 2:
        raise ValueError(f"writing ONNX takes two cases or more to check it with, got {len(images)}")
    with torch.no_grad(), _quiet():
        expected = network(images).numpy()
        program = torch.onnx.export(
            network, (images,), dynamo=True, verbose=False,
            input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=({0: torch.export.Dim("cases")},),
        )  # fmt: skip
    assert program is not None  # noqa: S101  # dynamo=True always gives one
    model = bytes(without_traces(program.model_proto).SerializeToString(deterministic=True))
    (found,) = cpu_session(model).run([OUTPUT], {INPUT: images.numpy()})
    off = float(np.abs(found - expected).max())
    if not off <= TOLERANCE:
        raise ValueError(f"logits of the ONNX model must lie within {TOLERANCE} of torch's, got a difference of {off}")
    return model


def without_traces(model: Any) -> Any:  # noqa: ANN401  onnx.ModelProto, which has no types
    """Drop what the exporter notes beside every node: the source lines of this machine, with their paths."""
    graph = model.graph
    places = (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for place in places:
        place.ClearField("metadata_props")
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's words on packages that are not needed, and on its own internals."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
