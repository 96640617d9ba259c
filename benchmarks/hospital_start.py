"""From a cold start to the first result, beside the bare cost of the library that answers; and the most memory.

    python -m benchmarks.hospital_start [--repeats 9] [--package DIR] [--study DIR] [--python PATH]

``evenbeat predict`` is started as a host starts it: a new process that reads the package, reads one study, asks the
network and writes the results; ``to results`` is the whole, from the start of that process to its end. Beside it, in
turns, another new process imports onnxruntime, loads the same network and runs it once on zeros. The bar is a ratio of
2.0 for a study without DICOM, where nothing but our own way of starting counts. A DICOM study costs pydicom's and
highdicom's start, too, and is measured beside a second process, which also imports these two. Peak memory is that of a
study of 240 MiB of pixels; the bar is 400 MiB.

``--python`` names the interpreter of an environment into which the ``hospital`` extra and nothing else was installed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cine_assembly import write_study
from tests.deployment.hospital_studies import write_nifti
from tests.deployment.tiny_package import tiny_package

ROOT = Path(__file__).parents[1]
SLOWER, PEAK_MIB = 2.0, 400.0
SMALL, LARGE = (20, 10, 128, 128), (30, 16, 512, 512)  # (phases, slices, rows, cols)
BARE = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
session.run(None, {given.name: numpy.zeros((1, *given.shape[1:]), numpy.float32)})
"""
WITH_DICOM = "import pydicom, highdicom.sr, highdicom.sc" + BARE
PEERS = {
    "NIfTI": {"onnxruntime": BARE},
    "DICOM": {"onnxruntime": BARE, "onnxruntime, pydicom and highdicom": WITH_DICOM},
}
BARS = {"NIfTI": f" (bar {SLOWER})", "DICOM": ""}
Command = Sequence[str | Path]


def started(command: Command, bytecode: Path) -> tuple[float, float]:
    """Run a process to its end.

    Args:
        command: what to start.
        bytecode: folder for what Python compiles: an installed program is compiled already.

    Returns:
        Wall time [s], and the most memory that it held [MiB].
    """
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | one_thread | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], env=environment, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"a process must end with status 0; {command[1:4]} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def compare(ours: Command, out: Path, peers: Sequence[Command], repeats: int) -> list[tuple[float, float, float]]:
    """Start a command and its peers in turns; the first turn compiles and warms the disk.

    Args:
        ours: to which a folder for the results is added.
        out: holds these folders.
        peers: of the command.
        repeats: turns that count.

    Returns:
        Of each peer, as medians: seconds of ours, seconds of the peer, their ratio.
    """
    turns = [
        [started(command, out.parent)[0] for command in ([*ours, out / str(turn)], *peers)]
        for turn in range(repeats + 1)
    ]
    own, *others = zip(*turns[1:], strict=True)
    return [
        (
            statistics.median(own),
            statistics.median(other),
            statistics.median([one / two for one, two in zip(own, other, strict=True)]),
        )
        for other in others
    ]


def main() -> None:
    """Measure, print seconds, ratios and memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--package", type=Path, help="a student package (default: a tiny one)")
    parser.add_argument("--study", type=Path, help="folder with one DICOM study (default: a synthetic one)")
    parser.add_argument("--python", default=sys.executable, help="interpreter to start")
    parser.add_argument("--no-large", action="store_true", help="leave out the study that is measured for its memory")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        package = arguments.package or tiny_package(root / "package").folder
        evenbeat = Path(arguments.python).with_name("evenbeat")  # as a host starts it
        predict = [arguments.python, evenbeat, "predict", "--package", package]
        studies = {"NIfTI": write_nifti(root / "nifti", name="cine.nii"), "DICOM": arguments.study or root / "dicom"}
        if arguments.study is None:
            _write(studies["DICOM"], SMALL)
        for kind, peers in PEERS.items():
            ours = [*predict, "--in", studies[kind], "--out"]
            bare = [[arguments.python, "-c", code, package / "student.onnx"] for code in peers.values()]
            measured = compare(ours, root / f"{kind}-out", bare, arguments.repeats)
            for peer, (whole, alone, ratio) in zip(peers, measured, strict=True):
                times = f"{kind} to results {whole:.2f} s, {peer} alone {alone:.2f} s"
                print(f"{times}; ratio: median {ratio:.2f}{BARS[kind]}", flush=True)
        if not arguments.no_large:
            _write(root / "large", LARGE)
            seconds, peak = started([*predict, "--in", root / "large", "--out", root / "large-out"], root)
            print(f"DICOM of {LARGE} to results {seconds:.2f} s, peak memory {peak:.0f} MiB (bar {PEAK_MIB:.0f})")


def _write(folder: Path, shape: tuple[int, int, int, int]) -> None:
    folder.mkdir()
    write_study(folder, shape)


if __name__ == "__main__":
    main()
