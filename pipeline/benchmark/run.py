"""`evenbeat benchmark`: plans laid out, blocks spread over processes, every finished cell kept at once."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from tqdm import tqdm

from pipeline.benchmark.blocks import BlockRun, Tell
from pipeline.benchmark.cells import Block, blocks_of
from pipeline.benchmark.plan import Plan
from pipeline.benchmark.results import Results
from pipeline.benchmark.tools import Tools
from pipeline.workers import end_with_parent

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    Queue = SimpleQueue[tuple[str, int]]

SHOWN_FAILURES = 10
POLL_SECONDS = 0.2


def run_benchmark(
    plans: Sequence[Plan],
    *,
    out: str | Path,
    results: str | Path,
    workers: int = 2,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] | None = None,
    tools: Tools | None = None,
) -> int:
    """Train and measure every cell of some plans that is not among the results yet.

    What is killed loses the cells that are being worked on, and of those only the epoch that was running: the next
    call goes on.

    Args:
        plans: see :func:`pipeline.benchmark.plan.find_plans`.
        out: folder of the work: pools, cohorts, models, MLflow's database, one log per process.
        results: folder of the three tables.
        workers: processes, one thread each; 0 works in this one.
        seeds: in place of the plans'.
        only: models, by name; the teachers that they need are trained, too.
        tools: what does the work.

    Returns:
        How many cells were finished now.

    Raises:
        ValueError: if a plan asks for something that does not exist, or another process works in ``out``.
        FileNotFoundError: if no plan has its data.
        RuntimeError: if cells failed, after all others have been finished; it names them.
    """
    folder, table, tools = Path(out).resolve(), Results(Path(results).resolve()), tools or Tools()
    if workers < 0:
        raise ValueError(f"workers must be 0 or more; got {workers}")
    laid_out = [_unfinished(blocks_of(plan, seeds=seeds, only=only), table) for plan in plans]
    with _alone(folder):
        blocks = _with_pools(laid_out, folder, workers, tools)
        uri = tools.database(folder, sorted({block.plan for block in blocks}))
        runs = [BlockRun(block, folder, table, uri, tools, _silent) for block in blocks]
        total = sum(len(block.cells) for block in blocks)
        with tqdm(total=total, desc="benchmark", unit="cell") as bar:

            def tell(doing: str, finished: int) -> None:
                bar.set_postfix_str(doing)
                bar.update(finished)

            failures = [line for lines in _worked(runs, tell, folder / "logs", workers) for line in lines]
    if failures:
        more = f"\nand {len(failures) - SHOWN_FAILURES} more" if len(failures) > SHOWN_FAILURES else ""
        raise RuntimeError(
            f"{len(failures)} of {total} cells failed, the others are finished; tracebacks stand in {folder / 'logs'}; "
            "mend the cause and run again:\n" + "\n".join(failures[:SHOWN_FAILURES]) + more
        )
    return total


def _unfinished(blocks: Sequence[Block], table: Results) -> list[Block]:
    done = table.digests()
    left = [
        replace(block, cells=tuple(cell for cell in block.cells if cell.config_digest not in done)) for block in blocks
    ]
    return [block for block in left if block.cells]


def _with_pools(laid_out: Sequence[Sequence[Block]], folder: Path, workers: int, tools: Tools) -> list[Block]:
    """Blocks whose data are there, their pools prepared; a plan without its data is left out, aloud."""
    ready: list[Block] = []
    reasons = []
    for blocks in laid_out:
        try:
            for cohorts in {repr(block.cohorts): block.cohorts for block in blocks}.values():
                tools.prepare_pool(cohorts, folder, workers)
            ready += blocks
        except FileNotFoundError as error:
            reasons.append(f"plan {blocks[0].plan} is left out: {error}")
    if reasons and not ready:
        raise FileNotFoundError("; ".join(reasons))
    for reason in reasons:
        sys.stderr.write(f"{reason}\n")
    return ready


def _worked(runs: Sequence[BlockRun], tell: Tell, logs: Path, workers: int) -> Iterator[list[str]]:
    """Failures of each block, as blocks end."""
    if workers == 0:
        for run in runs:
            run.tell = tell
            yield run.run()
        return
    context = multiprocessing.get_context("spawn")  # not forked: torch has threads
    queue = context.SimpleQueue()
    with ProcessPoolExecutor(
        max(1, min(workers, len(runs))), context, initializer=_start, initargs=(queue, logs)
    ) as pool:
        pending = {pool.submit(_work, run) for run in runs}
        try:
            while pending:
                done, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                _pass_on(queue, tell)
                yield from (future.result() for future in done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _pass_on(queue: Queue, tell: Tell) -> None:
    while not queue.empty():
        tell(*queue.get())


_told: list[Queue] = []


def _start(queue: Queue, logs: Path) -> None:
    """Begin a worker: one thread, output to a file of its own, and an end when its parent ends, however that comes."""
    logs.mkdir(parents=True, exist_ok=True)
    log = os.open(logs / f"{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    end_with_parent()
    _told[:] = [queue]
    _one_thread()


def _one_thread() -> None:
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch.set_num_threads(1)
    threadpool_limits(1)


def _work(run: BlockRun) -> list[str]:
    run.tell = _tell
    return run.run()


def _tell(doing: str, finished: int) -> None:
    _told[0].put((doing, finished))


def _silent(doing: str, finished: int) -> None:
    """Stand in until the process that works on the block is known."""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"one benchmark at a time must work in {folder}; another does; wait for it, or choose another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()
