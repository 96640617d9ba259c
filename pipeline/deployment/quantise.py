"""A network in 8-bit integers, taken only if the group that it serves worst loses next to nothing."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from pipeline.deployment.answers import PreparedStudies, answers, rows_of
from pipeline.deployment.manifest import INPUT
from pipeline.deployment.onnx_file import without_traces
from pipeline.tracking.group_metrics import worst_metrics

LARGEST_LOSS = 0.01  # of accuracy in the worst group
CALIBRATED_ON = 256  # studies at most
ROUNDING = 1e-9
DENSE = ("Gemm", "MatMul")


def quantised(model: bytes, studies: NDArray[np.float32]) -> bytes:
    """Round a network to 8 bits, with scales from the values that it takes on studies.

    Weights keep 7 of them: processors without VNNI add products in 16 bits and would saturate, so that the hospital's
    processor would answer otherwise than the one that was measured. The last layer stays float32: its scale would cut
    the logits of every study that is clearer than those it was calibrated on.

    Args:
        model: an ONNX file, float32.
        studies: ``(n, 2, slices, rows, cols)``, none of those that it is tested on.

    Returns:
        The ONNX file, QDQ, with float32 input and output as before.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model)
        before = logging.root.level
        logging.root.setLevel(logging.ERROR)  # advice to preprocess, which the exporter has done
        try:
            quantize_static(
                source, target, _Studies(studies),
                quant_format=QuantFormat.QDQ, calibrate_method=CalibrationMethod.MinMax,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True,
                nodes_to_exclude=[node.name for node in onnx.load(source).graph.node if node.op_type in DENSE],
            )  # fmt: skip
        finally:
            logging.root.setLevel(before)
        return bytes(without_traces(onnx.load(target)).SerializeToString(deterministic=True))


def accepted_int8(
    model: bytes, calibration: NDArray[np.float32], tested: PreparedStudies
) -> tuple[bytes, dict[str, Any]]:
    """Round a network to 8 bits, and refuse the result if its worst group loses more than a point of accuracy.

    Args:
        model: an ONNX file, float32.
        calibration: ``(n, 2, slices, rows, cols)``.
        tested: studies of the audited section, by the groups of their datalist.

    Returns:
        The ONNX file, and for the manifest the accuracy in the worst group before and after.

    Raises:
        ValueError: if it lost more than 0.01; the message has both values.
    """
    rounded = quantised(model, calibration)
    before, after = (worst_accuracy(one, tested) for one in (model, rounded))
    if not before - after <= LARGEST_LOSS + ROUNDING:
        raise ValueError(
            f"in 8 bits, accuracy in the worst group must stay within {LARGEST_LOSS} of float32's {before:.4f}; it is "
            f"{after:.4f} on {len(tested.items)} studies; export without --int8"
        )
    column = tested.cohort.group_column
    return rounded, {"float32": before, "int8": after, "column": column, "cases": len(tested.items)}


def worst_accuracy(model: bytes, studies: PreparedStudies) -> float:
    """Accuracy of an ONNX file in the group that it serves worst, groups being those of the datalist."""
    frame = answers(model, studies, "student")
    column = studies.cohort.group_column
    rows = rows_of(frame, {column: [str(item[column]) for item in studies.items]})
    return next(value for name, value in worst_metrics("test", rows).items() if "/accuracy/worst/" in name)


class _Studies(CalibrationDataReader):  # type: ignore[misc]  # untyped
    """Hands over studies one by one."""

    def __init__(self, studies: NDArray[np.float32]) -> None:
        self.left: Iterator[NDArray[np.float32]] = iter(studies)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next study as a batch of one; ``None`` after the last."""
        study = next(self.left, None)
        return None if study is None else {INPUT: study[None]}
