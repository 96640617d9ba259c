"""Kills the hospital's service at random moments while studies come, are read and are sent; then counts what is there.

Senders keep what they were not told to be taken, and send it again, as scanners and routers do. The reader only counts,
so that the moments fall on everything around it. Studies are spread over the kills. What each kill met is counted.

    python -m benchmarks.hospital_crash --kills 60 --studies 240
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from benchmarks.tiny_studies import digest_of, study_uid, tiny_study
from pipeline.deployment.service.database import NAME
from pipeline.deployment.service.identity import study_key_of

SENDERS = 4
LIFE_S = (0.02, 2.0)  # of the service from its start to its kill
EARLY = 0.15  # share of the kills that come before it has started
PIXELS = 200_000  # bytes of an instance
PATIENCE_S = 300.0  # at the end


class Tally:
    """What the senders were told, and what the PACS got."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.acknowledged: dict[int, list[str]] = {}
        self.refused = Counter[int]()
        self.received = Counter[str]()
        self.met = Counter[str]()
        self.kills = 0
        self.over = False


def main() -> int:
    """Run, print the counts; 1 if anything is lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--studies", type=int, default=240)
    parser.add_argument("--instances", type=int, default=6, help="of each study")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tally, began = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, pacs(tally) as pacs_port:
        state = Path(folder) / "state"
        port = free_port()
        senders = start_senders(tally, port, arguments)
        command = [sys.executable, "-m", "benchmarks.tiny_service", str(state), "--port", str(port)]
        command += ["--pacs-port", str(pacs_port), "--seconds", "0.2", "--quiet", "0.3"]
        kill_at_random(tally, state, command, arguments.kills, random.Random(arguments.seed))  # noqa: S311
        starts = events(state)["started"]
        with service(command) as process:
            for sender in senders:
                sender.join(PATIENCE_S)
            wanted = {study_key_of(study_uid(number)): uids for number, uids in tally.acknowledged.items()}
            settle(state, wanted, tally)
            wait_for_start(process, state, starts)  # all may have been done before it: then nothing was waited for
            process.send_signal(signal.SIGTERM)
            status = process.wait(20)
        return report(state, wanted, tally, arguments, status, time.monotonic() - began)


def start_senders(tally: Tally, port: int, arguments: argparse.Namespace) -> list[threading.Thread]:
    """Threads that share the studies and send each when its time has come, by the kills so far."""
    numbers = iter(range(arguments.studies))

    def send_all() -> None:
        while True:
            with tally.lock:
                number = next(numbers, None)
            if number is None:
                return
            while tally.kills < int(number * arguments.kills / arguments.studies) and not tally.over:
                time.sleep(0.01)
            send(tally, port, number, tiny_study(number, arguments.instances, pixels=PIXELS))

    threads = [threading.Thread(target=send_all, daemon=True) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    return threads


def send(tally: Tally, port: int, number: int, datasets: list[Dataset]) -> None:
    """Send a study, each instance until it is acknowledged."""
    waiting = list(datasets)
    while waiting:
        ae = AE("SENDER")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = 5
        contexts = [build_context(MRImageStorage, [ExplicitVRLittleEndian])]
        association = ae.associate("127.0.0.1", port, contexts=contexts, ae_title="EVENBEAT")
        while waiting and association.is_established:
            try:
                status = association.send_c_store(waiting[0]).get("Status")
            except (RuntimeError, ValueError):
                break
            with tally.lock:
                if status == 0:
                    tally.acknowledged.setdefault(number, []).append(str(waiting.pop(0).SOPInstanceUID))
                elif status is not None:
                    tally.refused[status] += 1
        if association.is_established:
            association.release()
        if waiting:
            time.sleep(0.05)


def kill_at_random(tally: Tally, state: Path, command: list[str], kills: int, draw: random.Random) -> None:
    """Start the service and kill it, again and again."""
    while tally.kills < kills:
        with service(command) as process:
            starts = events(state)["started"]
            if draw.random() > EARLY:
                wait_for_start(process, state, starts)
            time.sleep(draw.uniform(*LIFE_S))
            if process.poll() is not None:
                raise SystemExit(f"the service ended by itself, status {process.returncode}")
            process.kill()
            process.wait()
        tally.met.update(met(state))
        tally.kills += 1
        print(f"\rkill {tally.kills} of {kills}", end="", file=sys.stderr, flush=True)
    tally.over = True
    print(file=sys.stderr)


def wait_for_start(process: subprocess.Popen[bytes], state: Path, starts: int) -> None:
    """Wait until the log tells of one start more, or the process has ended."""
    while process.poll() is None and events(state)["started"] == starts:
        time.sleep(0.02)


def events(state: Path) -> Counter[str]:
    """How often each event was logged."""
    log = state.parent / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(line.partition('"event": "')[2].partition('"')[0] for line in lines)


def met(state: Path) -> set[str]:
    """What there was at the moment of a kill."""
    found = set()
    if any(state.glob("inbox/.incoming/*")):
        found.add("half an instance")
    if any(state.glob("work/*/out/*")):
        found.add("half a result")
    if not (state / NAME).exists():
        return found
    with closing(sqlite3.connect(state / NAME, timeout=10)) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'deliveries'").fetchone() is None:
            return found
        found |= {row[0] for row in connection.execute("SELECT state FROM studies")}
        found |= {"to be sent" for _ in connection.execute("SELECT 1 FROM deliveries WHERE state = 'waiting'")}
    return found


@contextmanager
def service(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the service."""
    with (Path(command[3]).parent / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextmanager
def pacs(tally: Tally) -> Iterator[int]:
    """A node that takes every report; its port."""

    def take(event: evt.Event) -> int:
        with tally.lock:
            tally.received[str(event.request.AffectedSOPInstanceUID)] += 1
        return 0

    ae = AE("PACS")
    ae.add_supported_context(ComprehensiveSRStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def last_results(state: Path) -> dict[str, tuple[int, dict[str, Any], str]]:
    """Last revision, its result and the UID of its report, by study."""
    found = {}
    for path in sorted(state.glob("results/*/*/result.json"), key=lambda path: int(path.parent.name)):
        with suppress(OSError, StopIteration):  # which makes room for the same, this moment
            report = next(path.parent.glob("*.dcm")).stem.partition("#")[2]
            found[path.parent.parent.name] = int(path.parent.name), json.loads(path.read_text()), report
    return found


def settle(state: Path, wanted: dict[str, list[str]], tally: Tally) -> None:
    """Wait until every study is read to the end and sent, or patience is."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = last_results(state)
        read = {key for key, uids in wanted.items() if key in found and found[key][1]["digest"] == digest_of(uids)}
        if len(read) == len(wanted) and all(tally.received[found[key][2]] for key in wanted):
            return
        time.sleep(0.5)


def report(
    state: Path, wanted: dict[str, list[str]], tally: Tally, arguments: argparse.Namespace, status: int, seconds: float
) -> int:
    """Print the counts; 1 if anything is lost."""
    found = last_results(state)
    kept = {key: {path.stem for path in (state / "inbox" / key).glob("*.dcm")} for key in wanted}
    lost_instances = sum(len(uids) - len(kept[key]) for key, uids in wanted.items())
    lost = [key for key, uids in wanted.items() if key not in found or found[key][1]["digest"] != digest_of(uids)]
    unsent = [key for key in wanted if key in found and not tally.received[found[key][2]]]
    sent = sum(tally.received.values())
    print(f"kill -9: {tally.kills} times in {seconds:.0f} s; after the last, SIGTERM ended it with status {status}")
    kinds = ("receiving", "half an instance", "waiting", "processing", "half a result", "to be sent")
    print("kills that met a study so: " + ", ".join(f"{kind} {tally.met[kind]}" for kind in kinds))
    print(f"acknowledged: {sum(map(len, wanted.values()))} instances of {len(wanted)} studies")
    print(f"refused, sent again: {sum(tally.refused.values())} instances")
    print(f"results: {len(found)} studies, of all acknowledged instances: {len(wanted) - len(lost)}")
    print(f"read again since instances came later: {sum(revision - 1 for revision, _, _ in found.values())} times")
    print(f"reports at the PACS: {len(tally.received)}; sent more than once, harmless: {sent - len(tally.received)}")
    print(f"duplicates: {len(found) - len({uid for _, _, uid in found.values()})} studies with another's report")
    print(f"lost: {lost_instances} instances, {len(lost)} readings, {len(unsent)} reports")
    complete = len(wanted) == arguments.studies
    return int(bool(lost or unsent or lost_instances or status or not complete))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    raise SystemExit(main())
