"""How much smaller and faster the default student is than the default teacher, one study on one thread of the CPU.

Both are built from the bundles' own settings, written as ONNX and run in onnxruntime, as a hospital would; in torch as
well, for those who would rather do that. Passes of the two alternate, so that a drift of the machine's speed hits both.
What the weights are makes no difference to the time.

    python -m benchmarks.student_latency --passes 200
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser

from pipeline.bundles import bundle_folders
from pipeline.deployment.onnx_file import onnx_model
from pipeline.deployment.package import INPUT
from pipeline.deployment.session import cpu_session
from pipeline.training.networks import Classifier, parameter_count
from transforms.recipe import StudentInput

SMALLER, FASTER = 50, 20
WARM_UPS = 10
Pass = Callable[[], object]


def main() -> None:
    """Measure, print milliseconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=200, help="counted passes of each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    teacher, student = (default_network(f"cardiac_cine_{role}") for role in ("teacher", "student"))
    weights = [parameter_count(network) for network in (teacher, student)]
    ratio = weights[0] / weights[1]
    print(f"weights: teacher {weights[0]:,}, student {weights[1]:,}; ratio {ratio:.1f} (at least {SMALLER})")
    images = torch.randn(2, *StudentInput().shape, generator=torch.Generator().manual_seed(0))
    for engine, passes in (("onnxruntime", onnx_pass), ("torch", torch_pass)):
        teachers, students = alternate(passes(teacher, images), passes(student, images), arguments.passes)
        ratio = statistics.median(one / other for one, other in zip(teachers, students, strict=True))
        target = f" (at least {FASTER})" if engine == "onnxruntime" else ""
        print(
            f"{engine}: teacher {statistics.median(teachers):.2f} ms, student {statistics.median(students):.2f} ms; "
            f"ratio teacher / student: median {ratio:.1f}{target}"
        )


def default_network(bundle: str) -> Classifier:
    """The network of a bundle's ``train.yaml``, three classes, with random weights."""
    config = ConfigParser.load_config_file(str(Path(bundle_folders()[bundle]) / "configs" / "train.yaml"))
    channels = int(np.prod(StudentInput().shape[:2]))
    torch.manual_seed(0)
    return Classifier(config["architecture"], classes=3, channels=channels, widths=config["widths"]).eval()


def onnx_pass(network: Classifier, images: torch.Tensor) -> Pass:
    """One study through onnxruntime."""
    session, image = cpu_session(onnx_model(network, images)), {INPUT: images[:1].numpy()}
    return lambda: session.run(None, image)


def torch_pass(network: Classifier, images: torch.Tensor) -> Pass:
    """One study through torch."""

    def run() -> object:
        with torch.inference_mode():
            return network(images[:1])

    return run


def alternate(one: Pass, other: Pass, passes: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each pass, in turns, without those that warm up."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(WARM_UPS + passes):
        for run, into in ((one, times[0]), (other, times[1])):
            start = time.perf_counter()
            run()
            into.append(1000 * (time.perf_counter() - start))
    return times[0][WARM_UPS:], times[1][WARM_UPS:]


if __name__ == "__main__":
    main()
