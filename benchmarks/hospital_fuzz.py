"""What becomes of damaged and hostile studies in the whole of a job: a result, a code, or something that must not be.

python -m benchmarks.hospital_fuzz [--studies 2000] [--seed 0]

Each study is written to a folder, damaged by its seed, and read by a process that reads many, with a limit on its
memory and on the time of each study. Counted are readings and refusals by code. A status ``failed``, an error that
leaves the job, a process that ended, a study that took too long, words on stdout or stderr, a result that its schema
does not allow, and a peak of memory above the bar are listed with their seed; then the status is 1.
``--seed N --studies 1`` repeats one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import jsonschema
from tqdm import tqdm

from benchmarks.hospital_damage import written
from pipeline.deployment.result_json import SCHEMA
from tests.deployment.tiny_package import tiny_package

LONGEST_S = 60.0  # for one study
PEAK_MIB = 400.0
ADDRESS_SPACE = 4 << 30  # bytes that the process may map; libraries map far more than they use
RESTART_AFTER = 200  # studies of one process: what it leaks shows, and does not add up


def serve(pipe: Connection, package: str) -> None:
    """Read what is asked for, in the child.

    Args:
        pipe: folders in; status, code and peak memory [MiB] out.
        package: of the student.
    """
    said = os.open(Path(package).parent / "said", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1), os.dup2(said, 2)
    from pipeline.deployment.job import open_reader
    from pipeline.deployment.selftest import peak_mib

    reader = open_reader(package)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    while True:
        folder, out = pipe.recv()
        try:
            outcome = reader.read(Path(folder), Path(out))
            answer = "read" if outcome.refusal is None else outcome.refusal.code.value
        except Exception as error:
            answer = f"ERROR {type(error).__name__}: {error}"
        sys.stdout.flush()
        pipe.send((answer, peak_mib()))


class Child:
    """A process that reads studies; another takes its place when it has ended.

    Args:
        package: of the student.
    """

    def __init__(self, package: Path) -> None:
        self.package, self._process = package, None  # type: ignore[var-annotated]
        self.done = 0

    def read(self, folder: Path, out: Path) -> tuple[str, float]:
        """What becomes of one study, and the most memory that its process has held [MiB]."""
        if self._process is None or self.done >= RESTART_AFTER:
            self.stop()
            context = multiprocessing.get_context("spawn")
            self._pipe, other = context.Pipe()
            self._process = context.Process(target=serve, args=(other, str(self.package)), daemon=False)
            self._process.start()
            other.close()
            self.done = 0
        self.done += 1
        try:
            self._pipe.send((str(folder), str(out)))
            if self._pipe.poll(LONGEST_S + (60 if self.done == 1 else 0)):
                return self._pipe.recv()  # type: ignore[no-any-return]
            self.stop()
            return "HANG", 0.0
        except (EOFError, OSError):
            self.stop()
            return "CRASH", 0.0

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def judge(answer: str, peak: float, out: Path, said: Path) -> str:
    """What must not be, in words; empty if all is well."""
    if answer.startswith(("ERROR", "HANG", "CRASH")):
        return answer
    if peak > PEAK_MIB:
        return f"PEAK {peak:.0f} MiB"
    if said.exists() and said.stat().st_size:
        text = said.read_text(errors="replace")
        said.write_text("")
        return f"SAID {text[:200]!r}"
    try:
        jsonschema.validate(json.loads((out / "result.json").read_text()), json.loads(SCHEMA.read_text()))
    except (OSError, ValueError, jsonschema.ValidationError) as error:
        return f"RESULT {type(error).__name__}"
    return ""


def main() -> int:
    """Damage, read, count; 1 if anything happened that must not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    faults, highest, start = [], 0.0, time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        package = tiny_package(Path(root) / "package").folder
        child = Child(package)
        for seed in tqdm(range(arguments.seed, arguments.seed + arguments.studies), unit="study", disable=None):
            damage, files = written(seed)
            with tempfile.TemporaryDirectory(dir=root) as place:
                folder, out = Path(place) / "in", Path(place) / "out"
                for name, data in files.items():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(data)
                folder.mkdir(exist_ok=True)
                answer, peak = child.read(folder, out)
                highest = max(highest, peak)
                fault = judge(answer, peak, out, Path(root) / "said")
            counts[damage, "read" if answer == "read" else "refused" if not fault else "FAULT"] += 1
            counts["", answer.split(":")[0]] += 1
            if fault:
                faults.append(f"seed {seed}, {damage}: {fault}")
                print(faults[-1], flush=True)
        child.stop()
    for (damage, answer), count in sorted(counts.items()):
        print(f"{count:6d}  {damage or 'all':32s} {answer}")
    seconds = time.perf_counter() - start
    print(f"{arguments.studies} studies in {seconds:.0f} s, peak {highest:.0f} MiB: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
