"""A network written as ONNX gives what torch gives."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.deployment.onnx_file import onnx_model
from pipeline.deployment.package import INPUT, OUTPUT
from pipeline.deployment.session import cpu_session
from pipeline.training.networks import Architecture, Classifier

pytestmark = pytest.mark.usefixtures("one_thread")


def _network(architecture: Architecture) -> Classifier:
    """With the running means and variances of a trained one."""
    torch.manual_seed(0)
    network = Classifier(architecture, classes=3, channels=16)
    network(torch.randn(8, 2, 8, 32, 32) * 3 + 1)
    return network.eval()


@pytest.mark.parametrize("architecture", ["resnet", pytest.param("mobilenetv2", marks=pytest.mark.slow)])
def test_onnxruntime_gives_the_logits_of_torch_for_any_number_of_cases(architecture: Architecture) -> None:
    network = _network(architecture)
    session = cpu_session(onnx_model(network, torch.randn(2, 2, 8, 32, 32)))
    for cases in (1, 5):
        images = torch.randn(cases, 2, 8, 32, 32)
        (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, network(images).numpy(), atol=1e-4)


def test_a_network_that_still_trains_is_refused() -> None:
    """Its batch norm would depend on the other cases."""
    with pytest.raises(ValueError, match=r"evaluation mode .* network.eval"):
        onnx_model(_network("resnet").train(), torch.zeros(2, 2, 8, 32, 32))


def test_a_single_case_is_refused() -> None:
    """The exporter would fix the number of cases at one."""
    with pytest.raises(ValueError, match="two cases or more"):
        onnx_model(_network("resnet"), torch.zeros(1, 2, 8, 32, 32))


class _Drifting(torch.nn.Module):
    """Answers differently on every call, as a network with forgotten dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.flatten(1)[:, :3] + torch.rand(3)


def test_an_export_that_answers_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"within 0.0001 of torch's, got a difference"):
        onnx_model(_Drifting(), torch.zeros(2, 1, 4, 4))


def test_a_session_runs_without_torch_and_without_telemetry() -> None:
    """The hospital has no torch; the library reads the variable when it is loaded."""
    code = (
        "import os, sys; from pipeline.deployment.session import cpu_session\n"
        "try: cpu_session(b'')\n"
        "except Exception: pass\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True", "False"]


def test_a_session_takes_one_thread_or_more() -> None:
    with pytest.raises(ValueError, match="threads must be 1 or more, got 0"):
        cpu_session(b"", threads=0)
