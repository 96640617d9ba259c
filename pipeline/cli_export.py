"""`evenbeat export`: a trained student and its audit as a package for a hospital."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.cli_options import DONE, folder_to_fill

DESCRIPTION = """\
Pack a trained student for a hospital: ONNX, checked against the trained network, its manifest, its audit, a model card.

With --dataset_dir the network is run on the audited studies, and must give the audited values: an audit of another
model is refused. The digest printed at the end is the one that a hospital should be told, by another way than the
package takes."""


def add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evenbeat export`` to the parser of commands."""
    parser = commands.add_parser("export", help="a trained student and its audit as a package for a hospital")
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=Path, help="output folder of a training, or its model.pt")
    parser.add_argument("-o", "--output", type=folder_to_fill, required=True, help="folder for the package")
    parser.add_argument("--audit", type=Path, help="audit.json, or its folder (default: none; every scanner is unseen)")
    parser.add_argument("--model", help="its name in the audit (default: the one that its bundle gives it)")
    parser.add_argument("--dataset_dir", type=Path, help="prepared studies to check network and audit with")
    parser.add_argument("--name", help="of the package (default: the bundle's)")
    parser.add_argument("--version", help="of the package (default: this program's)")
    parser.add_argument("--int8", action="store_true", help="8-bit network, if no group loses more than one point")
    parser.add_argument("--force", action="store_true", help="replace a package that is there")
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    from pipeline.deployment.export import export_package

    packed = export_package(
        arguments.run,
        arguments.output,
        audit=arguments.audit,
        model=arguments.model,
        dataset_dir=arguments.dataset_dir,
        name=arguments.name,
        version=arguments.version,
        int8=arguments.int8,
        force=arguments.force,
    )
    print("\n".join(packed.lines()))
    return DONE
