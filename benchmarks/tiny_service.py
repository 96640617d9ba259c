"""The hospital's service with a reader that only counts: to be killed by tests and benchmarks.

python -m benchmarks.tiny_service STATE --port 11112
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.tiny_studies import FACTORY, IDENTITY
from pipeline.deployment.service.node import ServedStudent
from pipeline.deployment.service.serve import leave, run
from pipeline.deployment.service.settings import Delivery, Destination, Dicom, Http, Limits, Reading, Settings


def main() -> int:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("state", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--pacs-port", type=int)
    parser.add_argument("--quiet", type=float, default=0.5, help="until a study is complete [s]")
    parser.add_argument("--attempts", type=int, default=3, help="until a study is parked")
    parser.add_argument("--seconds", default="0", help="for one study")
    parser.add_argument("--reader", default=FACTORY, help="module:function that makes the reader")
    arguments = parser.parse_args()
    settings = Settings(
        state=arguments.state,
        dicom=Dicom(port=arguments.port, calling_ae_titles=("SENDER",)),
        limits=Limits(free_disk_mb=0),
        reading=Reading(quiet_s=arguments.quiet, attempts=arguments.attempts),
        delivery=Delivery(first_retry_s=0.2, longest_retry_s=1, timeout_s=5),
        http=Http(port=arguments.http_port),
        destination=(Destination("pacs", "127.0.0.1", "PACS", arguments.pacs_port),) if arguments.pacs_port else (),
    )
    options = {"seconds": arguments.seconds} if arguments.reader == FACTORY else {}
    return leave(run(settings, ServedStudent(IDENTITY, None, arguments.reader, options)))


if __name__ == "__main__":
    raise SystemExit(main())
