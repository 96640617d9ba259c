"""`evenbeat datalist SOURCE`: one command for each layout of folders."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli_options import DONE, NOTHING_USABLE, file_to_write, folder_to_fill, mapping, names, shares

if TYPE_CHECKING:
    from pipeline.cohort.case import Datalist
    from pipeline.cohort.case_report import CaseReport

Parsers = argparse._SubParsersAction
Import = Callable[[argparse.Namespace], "tuple[Datalist, list[str]]"]

DICOM_DESCRIPTION = """\
Find the short-axis cine of each study below ROOT, whatever the names of its files and folders; find its heart, its
end-diastole and end-systole; write it as NIfTI and list it. What cannot be used is named with its reason.

Nothing that is written or printed names a patient, unless --keep-ids asks for it: patients, studies and sites get
pseudonyms under a secret salt, and of the headers' texts only vendor, model and the software's release are kept, with
sex and age. Text that somebody burned into the pixels is not looked for. A second run keeps the cines that are there
and goes on; the datalist is written anew."""


WATERBIRDS_DESCRIPTION = """\
Prepare the images (resize, standardise) and list them by the table's own split. Networks here start without
pretraining: results are not comparable with published ones."""


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add a command for each source to the parser of ``evenbeat datalist``."""
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for add in (_add_mnms, _add_mnms2, _add_acdc, _add_dicom, _add_waterbirds):
        add(sources)


def _add_mnms(sources: Parsers[argparse.ArgumentParser]) -> None:
    parser = _source(sources, "mnms", "M&Ms' OpenDataset folder", _mnms)
    parser.add_argument("--map", type=mapping, default={}, help="pathologies counted as others, e.g. HHD=HCM")
    _add_split(parser, "as the folders Training, Validation, Testing say")
    _add_classes(parser, ("NOR", "HCM", "DCM"))


def _add_mnms2(sources: Parsers[argparse.ArgumentParser]) -> None:
    parser = _source(sources, "mnms2", "M&Ms-2's MnM2 folder", _mnms2)
    parser.add_argument("--map", type=mapping, default={}, help="pathologies counted as others, e.g. LV=DCM")
    parser.add_argument(
        "--without-mnms-overlap",
        action="store_true",
        help="leave out the diseases NOR, LV and HCM, whose patients may stand in M&Ms, too",
    )
    _add_split(parser, "as the challenge numbered them: 1-160, 161-200, 201-360")
    _add_classes(parser, ("NOR", "LV", "HCM"))


def _add_acdc(sources: Parsers[argparse.ArgumentParser]) -> None:
    parser = _source(sources, "acdc", "ACDC's folder with training/patientNNN", _acdc)
    parser.add_argument("--simulate-scanners", choices=("mnms",), help="vendors simulated with M&Ms' shares")
    _add_classes(parser, ("NOR", "HCM", "DCM"))


def _add_dicom(sources: Parsers[argparse.ArgumentParser]) -> None:
    parser = _source(sources, "dicom", "any folder of DICOM studies", _dicom)
    parser.description = DICOM_DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="table with the columns label and one of patient_id, study_uid, case_id; sex and age may stand beside. "
        "Labelled patients are split; without a table every case goes to the test part",
    )
    parser.add_argument(
        "--report", type=folder_to_fill, metavar="DIR", help="write a quality sheet: index.html and cases.json"
    )
    parser.add_argument(
        "--cines", type=folder_to_fill, metavar="DIR", help="folder for the cines (beside the datalist)"
    )
    parser.add_argument("--keep-ids", action="store_true", help="write DICOM's PatientID: the datalist identifies")
    parser.add_argument("--keep-sites", action="store_true", help="write the institution's name as site")
    parser.add_argument(
        "--salt-file",
        type=Path,
        metavar="FILE",
        help="secret of the pseudonyms, made if absent (~/.config/evenbeat/salt)",
    )
    _add_classes(parser, None)


def _add_waterbirds(sources: Parsers[argparse.ArgumentParser]) -> None:
    parser = _source(sources, "waterbirds", "Waterbirds' folder, or one in its layout, with metadata.csv", _waterbirds)
    parser.description = WATERBIRDS_DESCRIPTION
    parser.add_argument(
        "--pixels", type=int, default=64, help="rows and columns; 224 as in the literature take 7 GB (default: 64)"
    )
    parser.add_argument(
        "--images", type=folder_to_fill, metavar="DIR", help="folder for the prepared images (beside the datalist)"
    )
    for name, default in (("classes", "landbird,waterbird"), ("places", "land,water")):
        parser.add_argument(f"--{name}", type=names, default=names(default), help=f"names of 0 and 1 ({default})")
    parser.add_argument(
        "--group-by", type=names, default=("site", "label"), help="comma-separated columns (site,label); site: place"
    )


def _source(sources: Parsers[argparse.ArgumentParser], name: str, what: str, listed: Import) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = sources.add_parser(name, help=what)
    parser.add_argument("root", metavar="ROOT", type=Path, help=what)
    parser.add_argument("-o", "--output", type=file_to_write, required=True, help="datalist.json to write")
    parser.set_defaults(command=_datalist, listed=listed)
    return parser


def _add_split(parser: argparse.ArgumentParser, official: str) -> None:
    parser.add_argument(
        "--split", choices=("stratified", "folders"), default="stratified", help=f"patients drawn anew, or {official}"
    )


def _add_classes(parser: argparse.ArgumentParser, classes: Sequence[str] | None) -> None:
    """Options on classes, groups and the split, which every source of studies has."""
    default = ",".join(classes) if classes else "those among the labels; without a table NOR,HCM,DCM"
    parser.add_argument("--classes", type=names, default=classes, help=f"comma-separated ({default})")
    parser.add_argument("--group-by", type=names, default=("vendor",), help="comma-separated columns (vendor)")
    parser.add_argument(
        "--shares", type=shares, default=(0.6, 0.2, 0.2), help="of the patients for training, validation, test "
        "(0.6,0.2,0.2)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the split")


def _datalist(arguments: argparse.Namespace) -> int:
    from pipeline.cohort.case import write_datalist

    listed, lines = arguments.listed(arguments)
    print("\n".join(lines))
    if not any(listed.sections.values()):
        sys.stderr.write(f"no study came in; {_where_to_look(arguments, listed)}\n")
        return NOTHING_USABLE
    write_datalist(listed, arguments.output)
    print(f"wrote {arguments.output}")
    return DONE


def _common(arguments: argparse.Namespace) -> dict[str, Any]:
    """What ``_add_classes`` asks for."""
    from pipeline.cohort.case import SECTIONS

    return {
        "classes": arguments.classes,
        "group_by": arguments.group_by,
        "seed": arguments.seed,
        "fractions": dict(zip(SECTIONS, arguments.shares, strict=True)),
    }


def _where_to_look(arguments: argparse.Namespace, listed: Datalist) -> str:
    """The console counts reasons; what to do about a study stands on the quality sheet."""
    if not listed.set_aside:
        return f"there is none in {arguments.root}"
    if arguments.source != "dicom":
        return "the reasons are listed above"
    page = arguments.report / "index.html" if arguments.report else "a quality sheet (--report DIR)"
    return f"the reasons are listed above, and {page} says what to do about each"


def _mnms(arguments: argparse.Namespace) -> tuple[Datalist, list[str]]:
    from pipeline.cohort.mnms import import_mnms

    return _with_summary(
        import_mnms(arguments.root, split=arguments.split, class_map=arguments.map, **_common(arguments))
    )


def _mnms2(arguments: argparse.Namespace) -> tuple[Datalist, list[str]]:
    from pipeline.cohort.mnms2 import import_mnms2

    return _with_summary(
        import_mnms2(
            arguments.root,
            split=arguments.split,
            class_map=arguments.map,
            without_mnms_overlap=arguments.without_mnms_overlap,
            **_common(arguments),
        )
    )


def _acdc(arguments: argparse.Namespace) -> tuple[Datalist, list[str]]:
    from pipeline.cohort.acdc import import_acdc

    return _with_summary(
        import_acdc(arguments.root, simulate_scanners=arguments.simulate_scanners, **_common(arguments))
    )


def _with_summary(listed: Datalist) -> tuple[Datalist, list[str]]:
    from pipeline.cohort.summary import summary_lines

    return listed, summary_lines(listed)


def _dicom(arguments: argparse.Namespace) -> tuple[Datalist, list[str]]:
    from pipeline.cohort.dicom import dicom_lines, import_dicom
    from pipeline.cohort.pseudonym import Pseudonyms, read_salt

    reports: list[CaseReport] = []
    listed = import_dicom(
        arguments.root,
        cines_dir=arguments.cines or arguments.output.with_name(f"{arguments.output.stem}-cines"),
        pseudonyms=Pseudonyms(read_salt(arguments.salt_file)),
        labels=arguments.labels,
        keep_ids=arguments.keep_ids,
        keep_sites=arguments.keep_sites,
        on_study=reports.append,
        **_common(arguments),
    )
    lines = dicom_lines(listed, reports)
    if arguments.report:
        from pipeline.sheet.quality_sheet import write_quality_sheet

        lines.append(f"wrote {write_quality_sheet(listed, arguments.report, reports=reports)}")
    return listed, lines


def _waterbirds(arguments: argparse.Namespace) -> tuple[Datalist, list[str]]:
    from pipeline.cohort.waterbirds import import_waterbirds
    from transforms.natural_image import NaturalImage

    return _with_summary(
        import_waterbirds(
            arguments.root,
            arguments.images or arguments.output.with_name(f"{arguments.output.stem}-images"),
            recipe=NaturalImage(arguments.pixels, arguments.pixels),
            classes=arguments.classes,
            places=arguments.places,
            group_by=arguments.group_by,
        )
    )
