"""A network in 8-bit integers, taken only if no group loses more than next to nothing."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from pipeline.deployment.answers import PreparedStudies, answers, groups_of, rows_of
from pipeline.deployment.manifest import INPUT
from pipeline.deployment.onnx_file import without_traces

LARGEST_LOSS = 0.01  # of accuracy, in any group
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
    model: bytes, calibration: NDArray[np.float32], tested: PreparedStudies, columns: Sequence[str] = ()
) -> tuple[bytes, dict[str, Any]]:
    """Round a network to 8 bits, and refuse the result if any group loses more than a point of accuracy.

    Where no group loses more, the worst one's accuracy and that of all patients do not, either.

    Args:
        model: an ONNX file, float32.
        calibration: ``(n, 2, slices, rows, cols)``.
        tested: studies of the audited section.
        columns: of the audit; groups are those of the datalist's own column and of these, as far as it has them.

    Returns:
        The ONNX file, and for the manifest accuracy in the worst group before and after, and the largest loss.

    Raises:
        ValueError: if a group lost more than 0.01; the message has both its values.
    """
    rounded = quantised(model, calibration)
    before, after = (group_accuracies(one, tested, columns) for one in (model, rounded))
    column, group = most = max(before, key=lambda place: before[place] - after[place])
    loss = before[most] - after[most]
    if not loss <= LARGEST_LOSS + ROUNDING:
        raise ValueError(
            f"in 8 bits, accuracy in every group must stay within {LARGEST_LOSS} of float32's; in {column} {group} it "
            f"is {after[most]:.4f}, and was {before[most]:.4f}, of {len(tested.items)} studies; export without --int8"
        )
    return rounded, {
        "float32": min(before.values()),
        "int8": min(after.values()),
        "largest_loss": {"accuracy": max(loss, 0.0), "column": column, "group": group},
        "columns": list(dict.fromkeys(place[0] for place in before)),
        "cases": len(tested.items),
    }


def group_accuracies(model: bytes, studies: PreparedStudies, columns: Sequence[str]) -> dict[tuple[str, str], float]:
    """Accuracy of an ONNX file in every group.

    Args:
        model: the file.
        studies: with known truth.
        columns: of groups, beside the datalist's own; those that it lacks are passed over.

    Returns:
        (column, group) -> accuracy.
    """
    frame = answers(model, studies, "student")
    own = studies.cohort.group_column
    groups = {own: [str(item[own]) for item in studies.items]} | groups_of(frame, columns)
    return {(row.column, row.group): row.accuracy for row in rows_of(frame, groups)}


class _Studies(CalibrationDataReader):  # type: ignore[misc]  # untyped
    """Hands over studies one by one."""

    def __init__(self, studies: NDArray[np.float32]) -> None:
        self.left: Iterator[NDArray[np.float32]] = iter(studies)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next study as a batch of one; ``None`` after the last."""
        study = next(self.left, None)
        return None if study is None else {INPUT: study[None]}
