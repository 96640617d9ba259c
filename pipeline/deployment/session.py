"""A student in onnxruntime, on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def cpu_session(model: bytes | str | Path, *, threads: int = 1) -> InferenceSession:
    """Open an ONNX model on the CPU, without telemetry.

    Args:
        model: the file's bytes or its path.
        threads: that one run may use, 1 or more; the calling one is among them.

    Raises:
        ValueError: if ``threads`` is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads}; 1 leaves the other cores alone")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is loaded
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )
