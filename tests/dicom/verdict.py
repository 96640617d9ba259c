"""What becomes of studies on their way: the right stack, a refusal, or something that must not be.

``python -m tests.dicom.verdict [STUDIES]`` prints what became of how many, by mutation.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from pipeline.dicom.cine import Cine, read_cine
from pipeline.dicom.refusal import Refusal
from tests.dicom.dicom_writer import LAYOUTS, Study
from tests.dicom.mutations import HANDLING, MUTATIONS, Parcel, mutated
from tests.dicom.scan_plan import Key

RIGHT = "right stack"


def outcome(post: Parcel, folder: Path) -> str:
    """Read a study and judge what came.

    Args:
        post: the study.
        folder: an empty one.

    Returns:
        :data:`RIGHT`, or the code of the refusal.

    Raises:
        AssertionError: if the stack is not the one that was scanned, or nothing was wrong and it is refused.
    """
    paths = [folder / name for name in post.files]
    for path, data in zip(paths, post.files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, Path):
            path.symlink_to(data)
        else:
            path.write_bytes(data)
    try:
        cine = read_cine(paths)
    except Refusal as refusal:
        if post.must_be_read:
            raise AssertionError(f"nothing is wrong with it, but {refusal}") from refusal
        return refusal.code.value
    check(post, cine)
    return RIGHT


def check(post: Parcel, cine: Cine) -> None:
    """Hold a cine against what was scanned: pixels, places, times, heart cycles and sources of every image."""
    keys = expected(post)
    plan, phases = post.study.plan, range(post.study.plan.phases)
    assert keys, "a slice is not whole, and yet there is a stack"
    every = [[(s, run, p) for s, run in keys] for p in phases]
    assert np.array_equal(cine.values, [[plan.pixels(key) for key in row] for row in every]), "pixels"
    first = np.eye(4)
    first[2, 3] = keys[0][0]
    assert np.abs(cine.affine - plan.affine @ first).max() < 0.01, "affine"
    times = np.asarray([[plan.time_ms(key) for key in row] for row in every])
    step = float(np.diff(times, axis=0).min())
    known = np.isfinite(cine.times_ms)
    assert known.all() == bool({"TriggerTime", "delay", "percent"} & {*post.study.layout.clocks}), (
        "which times are known"
    )
    assert np.all(np.abs(cine.times_ms - times)[known] <= 0.001 + post.times_tolerance * step), "times"
    assert np.abs(cine.rr_ms - [plan.rr_ms[key] for key in keys]).max() < 1, "heart cycles"
    assert cine.sources == tuple(tuple(_source(post.study, key) for key in row) for row in every), "sources"


def expected(post: Parcel) -> list[tuple[int, int]]:
    """Slice and run of what must be read; empty if a slice is not whole.

    Where a file is a slice, one that is lost at an end of the stack leaves no trace; the others must be right.
    """
    plan, study = post.study.plan, post.study
    runs = [[0, 1] if s in study.repeated else [0] for s in range(plan.slices)]
    whole = [[r for r in of if {(s, r, p) for p in range(plan.phases)} <= post.whole] for s, of in enumerate(runs)]
    there = [s for s, of in enumerate(whole) if of]
    gone = [s for s in range(plan.slices) if s not in there]
    if not there or (gone and study.layout.files != "slice") or there != list(range(there[0], there[-1] + 1)):
        return []
    return [(s, whole[s][-1]) for s in there]


def _source(study: Study, key: Key) -> tuple[str, int]:
    name = next(name for name, keys in study.contents.items() if key in keys)
    return str(study.files[name].SOPInstanceUID), study.contents[name].index(key)


def tally(n_studies: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """What became of studies, by mutation; and descriptions of those that went wrong."""
    found: dict[str, Counter[str]] = {mutation: Counter() for mutation in MUTATIONS}
    wrong = []
    layouts, mutations, handlings = (list(each) for each in (LAYOUTS, MUTATIONS, HANDLING))
    for seed in range(n_studies):
        mutation = mutations[seed % len(mutations)]
        layout = layouts[(seed // len(mutations)) % len(layouts)]
        handling = handlings[seed % len(handlings)]
        with tempfile.TemporaryDirectory() as folder:
            try:
                found[mutation][outcome(mutated(layout, mutation, handling, seed), Path(folder))] += 1
            except Exception as error:  # whatever it is, it is what is looked for
                found[mutation]["WRONG"] += 1
                wrong.append(f"{layout!r}, {mutation!r}, {handling!r}, {seed}: {type(error).__name__}: {error}"[:250])
    return found, wrong


def main() -> None:
    """Print the table."""
    found, wrong = tally(int(sys.argv[1]) if len(sys.argv) > 1 else 600)
    print("| mutation | studies | right stack | refused |\n| --- | --- | --- | --- |")
    for mutation, counts in found.items():
        refused = ", ".join(f"{code} {n}" for code, n in counts.most_common() if code != RIGHT)
        print(f"| {mutation} | {counts.total()} | {counts[RIGHT]} | {refused or '-'} |")
    print(f"\n{sum(counts.total() for counts in found.values())} studies; wrong: {len(wrong)}", *wrong, sep="\n")


if __name__ == "__main__":
    main()
