"""A student answers as its network says, and one that does not fit its manifest is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.deployment.package import PackageError
from pipeline.deployment.student import Student, cpus, threads_allowed
from tests.deployment.made_package import CLASSES
from tests.deployment.tiny_package import RECIPE, tiny_onnx, tiny_package


def _image(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=RECIPE.shape).astype(np.float32)


def test_probabilities_are_the_softmax_of_the_logits(tmp_path: Path) -> None:
    """The network by hand: means of the plane, times the weights that the tiny one was written with."""
    image = _image()
    weights = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    logits = image.mean(axis=(2, 3)).reshape(16) @ weights
    expected = np.exp(logits) / np.exp(logits).sum()
    found = Student(tiny_package(tmp_path / "p")).probabilities(image)
    assert tuple(found) == CLASSES
    assert np.allclose(list(found.values()), expected, atol=1e-6)
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (b"no network", "must load in onnxruntime"),
        (tiny_onnx(4), r"logits tensor\(float\) \(1, 3\); it has .* \(1, 4\)"),
        (tiny_onnx(output="scores"), "logits"),
        (tiny_onnx(shape=(2, 4, 64, 64)), r"image tensor\(float\) \(1, 2, 8, 64, 64\)"),
    ],
)
def test_a_network_that_is_not_what_the_manifest_says_is_refused(network: bytes, message: str, tmp_path: Path) -> None:
    package = tiny_package(tmp_path / "p", onnx=network)
    with pytest.raises(PackageError, match=message):
        Student(package)


def test_a_network_exchanged_after_the_check_is_refused(tmp_path: Path) -> None:
    package = tiny_package(tmp_path / "p")
    package.onnx_path.write_bytes(tiny_onnx(bias=1.0))
    with pytest.raises(PackageError, match="SHA-256"):
        Student(package)


def test_an_image_of_another_shape_and_logits_that_are_no_numbers_are_errors(tmp_path: Path) -> None:
    student = Student(tiny_package(tmp_path / "p"))
    with pytest.raises(ValueError, match="image must have the shape"):
        student.probabilities(_image()[:, :4])
    endless = Student(tiny_package(tmp_path / "q", onnx=tiny_onnx(bias=np.inf)))
    with pytest.raises(ArithmeticError, match="finite"):
        endless.probabilities(_image())


@pytest.mark.parametrize(("asked", "expected"), [(None, 1), ("1", 1), ("999", "all"), ("0", 1), ("many", 1)])
def test_threads_are_one_unless_asked_for_and_never_more_than_cpus(
    asked: str | None, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads_allowed() == (cpus() if expected == "all" else expected)


@pytest.mark.parametrize(
    ("told", "expected"),
    [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("800000 0", 8), ("nonsense", 8), (None, 8)],
)
def test_a_containers_quota_is_honoured(
    told: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    quota = tmp_path / "cpu.max"
    if told is not None:
        quota.write_text(told)
    assert cpus(quota) == expected
