"""The student of a package, in onnxruntime: a prepared study in, a probability for each class out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.deployment.package import INPUT, OUTPUT, Package, PackageError
from pipeline.deployment.session import cpu_session

FLOAT = "tensor(float)"
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of the container: microseconds it may use, and of which period
REMEDY = "export the package again, with the evenbeat that is to run it"


class Student:
    """A package's network, loaded.

    Args:
        package: read and checked.
        threads: that one run may use; ``None`` asks :func:`threads_allowed`.

    Raises:
        PackageError: if the network cannot be loaded, or has other inputs, outputs, shapes or classes than the
            manifest says.
    """

    def __init__(self, package: Package, *, threads: int | None = None) -> None:
        self.classes, self.shape = package.classes, package.recipe.shape
        try:
            self._session = cpu_session(package.onnx_bytes(), threads=threads or threads_allowed())
        except (PackageError, ImportError):
            raise
        except Exception as error:  # onnxruntime's are many
            raise PackageError(f"student.onnx must load in onnxruntime; {type(error).__name__}; {REMEDY}") from None
        self._check()

    def probabilities(self, image: NDArray[np.float32]) -> dict[str, float]:
        """Ask the student about one study.

        Args:
            image: float32 ``(2, slices, rows, cols)``, as :func:`transforms.recipe.prepare_study` makes it.

        Returns:
            Class -> probability, in the package's order; they sum to 1.

        Raises:
            ValueError: if the image has another shape.
            ArithmeticError: if a logit is not finite.
        """
        if image.shape != self.shape:
            raise ValueError(f"image must have the shape {self.shape}; got {image.shape}; prepare it by the recipe")
        (found,) = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(image[None], dtype=np.float32)})
        if not np.isfinite(found).all():
            raise ArithmeticError("logits must be finite; the student gave others")
        return dict(zip(self.classes, softmax(found)[0].tolist(), strict=True))

    def _check(self) -> None:
        """Hold the network's own inputs and outputs against the manifest.

        Raises:
            PackageError: if they differ.
        """
        nodes = (*self._session.get_inputs(), *self._session.get_outputs())
        found = {node.name: (node.type, _for_one_case(node.shape)) for node in nodes}
        expected = {INPUT: (FLOAT, (1, *self.shape)), OUTPUT: (FLOAT, (1, len(self.classes)))}
        if found != expected:
            raise PackageError(f"student.onnx must have {_said(expected)}; it has {_said(found)}; {REMEDY}")


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities ``(n, C)`` of logits ``(n, C)``."""
    shares = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def threads_allowed() -> int:
    """How many threads a run may use: OMP_NUM_THREADS, 1 without it, never more than there are CPUs for this process.

    The network is small: a second thread gains little, and takes a core from somebody else.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(int(asked) if asked.isdecimal() else 1, cpus()))


def cpus(quota: Path = CPU_QUOTA) -> int:
    """CPUs that this process may use, by its affinity and by its container's quota; at least 1.

    Args:
        quota: file in which the kernel tells the quota, e.g. ``150000 100000``, or ``max 100000``.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text(encoding="ascii").split()
        return max(1, min(available, ceil(int(allowed) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # none is set, or by another version of the kernel's interface
        return available


def _for_one_case(shape: Sequence[int | str | None]) -> tuple[object, ...]:
    """A shape with 1 for a first axis of any length."""
    return tuple(1 if axis == 0 and not isinstance(size, int) else size for axis, size in enumerate(shape))


def _said(nodes: Mapping[str, tuple[str, tuple[object, ...]]]) -> str:
    return ", ".join(f"{name:.40} {kind} {shape}" for name, (kind, shape) in sorted(nodes.items()))
