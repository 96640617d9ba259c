"""`evenbeat predict` and `evenbeat selftest`: a study's results from a package, and whether a package works here."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
from typing import TYPE_CHECKING

from pipeline.cli_options import DIGEST, DONE, NOTHING_USABLE, ONE_THREAD, OUR_FAULT, PACKAGE, process_user

if TYPE_CHECKING:
    from pipeline.deployment.outcome import Outcome

DESCRIPTION = """\
Read one study and write its results.

The input folder holds one DICOM study, in any folders and under any names, or one 4-D NIfTI image, with a JSON object
of manufacturer, model and field_strength beside it. Without --in and --out, the variables of the host are asked:
HOLOSCAN_INPUT_PATH and HOLOSCAN_OUTPUT_PATH, MERCURE_IN_DIR and MERCURE_OUT_DIR, MONAI_INPUTPATH and MONAI_OUTPUTPATH;
then /input and /output.

status 0: result.json is there, with a reading or a refusal; with --fail-on-refusal a refusal ends with status 3
status 1: the study could not be read or written to its end, for want of a right, say, or by an error of ours;
          result.json says where, if it could be written
status 2: wrong usage, or a package that must not be used"""


def add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evenbeat predict`` to the parser of commands."""
    parser = commands.add_parser("predict", help="one study in, result.json, DICOM report and picture out")
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_package(parser)
    parser.add_argument("--in", dest="input", help="folder with one study")
    parser.add_argument("--out", dest="output", help="folder for the results; made if missing")
    parser.add_argument("--fail-on-refusal", action="store_true", help="end with status 3 if the study is refused")
    parser.set_defaults(command=_predict)


def add_selftest(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evenbeat selftest`` to the parser of commands."""
    parser = commands.add_parser("selftest", help="whether a student package works on this machine")
    _add_package(parser)
    parser.set_defaults(command=_selftest)


def _add_package(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--package", default=os.environ.get(PACKAGE), help=f"student package (default: ${PACKAGE})")
    parser.add_argument(
        "--expect-digest",
        default=os.environ.get(DIGEST, ""),
        metavar="SHA256",
        help=f"of its package.json, as evenbeat export printed it (default: ${DIGEST})",
    )


def _predict(arguments: argparse.Namespace) -> int:
    _keep_to_one_thread()
    gc.disable()  # one study, and the process ends: to look for what could be freed takes a quarter of the time
    atexit.register(gc.freeze)  # nor as it ends, where Python looks all the same, for about as long
    from pipeline.deployment.contracts import ContractError, read_settings, resolve
    from pipeline.deployment.job import JobFailedError, run_job
    from pipeline.deployment.package import expected_sha256, read_package
    from pipeline.deployment.student import Student

    job = resolve(os.environ, given_input=arguments.input, given_output=arguments.output)
    settings = read_settings(job.input)
    digests = {expected_sha256(text) for text in (arguments.expect_digest, settings.expect_digest) if text}
    if len(digests) > 1:
        raise ContractError(
            "one digest must be expected; option or variable and the rule's setting differ; correct one"
        )
    package = read_package(_package(arguments), next(iter(digests), None))
    student = Student(package)
    try:
        outcome = run_job(job, package, student)
    except JobFailedError as error:
        remedy = (
            f"{error.reason}: see to it that {process_user()} may read the whole study and write the results, and that "
            "disks work and have room, and run it again"
            if error.reason
            else "report this, with the version and no patient data"
        )
        sys.stderr.write(f"evenbeat predict: failed, {error}; {remedy}\n")
        return OUR_FAULT
    print(_said(outcome))
    refused = outcome.refusal is not None and (arguments.fail_on_refusal or settings.fail_on_refusal)
    return NOTHING_USABLE if refused else DONE


def _selftest(arguments: argparse.Namespace) -> int:
    _keep_to_one_thread()
    from pipeline.deployment.package import read_package
    from pipeline.deployment.selftest import lines, selftest

    try:
        package = read_package(_package(arguments), arguments.expect_digest or None)
        report = selftest(package)
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"evenbeat selftest: {error}\n")
        return OUR_FAULT
    print("\n".join(lines(package, report, expected=bool(arguments.expect_digest))))
    return DONE


def _package(arguments: argparse.Namespace) -> str:
    if not arguments.package:
        raise ValueError(f"a package must be named; got none; give --package, or set {PACKAGE}")
    return str(arguments.package)


def _keep_to_one_thread() -> None:
    """Libraries of linear algebra start a thread per core of the machine, whatever a container may use."""
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")


def _said(outcome: Outcome) -> str:
    """One line that tells no finding: routers keep what a module prints."""
    if outcome.refusal is not None:
        return f"refused {outcome.study_key}: {outcome.refusal}"
    verdict = outcome.envelope.verdict if outcome.envelope else "no scanner known"
    return f"read {outcome.study_key}: scanner {verdict}; result.json tells the rest"
