"""`evenbeat serve` and `evenbeat erase`: a hospital's DICOM node, and removal of one study from it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pipeline.cli_options import DIGEST, DONE, ONE_THREAD, PACKAGE

DESCRIPTION = """\
Take studies as a DICOM node, have the student read each, send what it found to the PACS.

An instance is on the disk before its sender hears that it was taken. Health and metrics are on /healthz, /readyz and
/metrics. SIGTERM ends it within 10 s; it goes on where it was, whatever ended it."""
READER = "pipeline.deployment.job:open_reader"  # made in a process of its own


def add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evenbeat serve`` to the parser of commands."""
    parser = commands.add_parser("serve", help="a DICOM node that reads the studies it is sent")
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="settings, as in docker/evenbeat.example.toml"
    )
    package = os.environ.get(PACKAGE)
    parser.add_argument(
        "--package",
        type=Path,
        default=package,
        required=package is None,
        metavar="DIR",
        help=f"student package (default: ${PACKAGE})",
    )
    parser.add_argument(
        "--expect-digest",
        default=os.environ.get(DIGEST, ""),
        metavar="SHA256",
        help=f"digest that the package must have (default: ${DIGEST})",
    )
    parser.add_argument("--retry-parked", action="store_true", help="try again what was given up before")
    parser.set_defaults(command=_serve)


def add_erase(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evenbeat erase`` to the parser of commands."""
    parser = commands.add_parser("erase", help="remove everything of one study from the node, now")
    parser.add_argument("study", metavar="STUDY_UID", help="StudyInstanceUID, or the study's key as in the log")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="the settings' state folder")
    parser.set_defaults(command=_erase)


def _serve(arguments: argparse.Namespace) -> int:
    for name in ONE_THREAD:  # the reader's process inherits it
        os.environ.setdefault(name, "1")
    from pipeline.deployment.package import read_package
    from pipeline.deployment.service.node import ServedStudent
    from pipeline.deployment.service.serve import leave, run
    from pipeline.deployment.service.settings_file import read_settings

    settings = read_settings(arguments.config)
    package = read_package(arguments.package, arguments.expect_digest or None)
    options = {"package": str(arguments.package), "expected_digest": package.digest}
    expected = bool(arguments.expect_digest)
    student = ServedStudent(package.identity, package.reference, READER, options, expected)
    return leave(run(settings, student, retry_parked=arguments.retry_parked))


def _erase(arguments: argparse.Namespace) -> int:
    from pipeline.deployment.service.retention import erase

    gone = erase(arguments.state, arguments.study)
    print(
        f"study {gone.study_key}: removed {gone.inbox_files} received files, {gone.result_files} files of results, "
        f"{gone.rows} rows"
    )
    return DONE
