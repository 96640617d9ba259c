"""Kinds of cohorts: phantoms, real hearts on simulated scanners, digits on photographs.

Of hearts a pool is rendered and prepared once, from which every seed and fold is dealt.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmark.bundle_runs import digest_of, run_bundle
from pipeline.benchmark.deals import DEVELOPMENT, deal_folds, deal_table
from pipeline.cohort import acdc
from pipeline.cohort.case import Case, Datalist, read_datalist, write_datalist
from pipeline.cohort.digits import write_digits
from pipeline.cohort.digits_plan import CLASSES, PLACES
from pipeline.cohort.mnms import import_mnms
from pipeline.cohort.phantom import write_phantom
from pipeline.cohort.phantom_anatomy import PATHOLOGIES
from pipeline.cohort.phantom_plan import Settings, aligned_counts, training_counts
from pipeline.cohort.split import Sections, ordered
from pipeline.cohort.waterbirds import import_waterbirds
from transforms.natural_image import NaturalImage

REAL_DATA = "EVENBEAT_REAL_DATA"
DATALIST, DEVELOPMENT_DATALIST = "datalist.json", "development.json"
FEWEST_STUDIES = 11  # that a phantom cohort can have for training, which a pool does not use: one per filled cell


class Cohorts(Protocol):
    """Cohorts of one kind and one combination of dials; one for each seed and fold."""

    kind: ClassVar[str]

    def check_folds(self, folds: int) -> None:
        """Refuse a number of folds that this kind does not have."""

    def pool(self, folder: Path, workers: int) -> None:
        """Render and prepare what all seeds and folds share, or go on where an earlier run stopped."""

    def build(self, target: Path, *, seed: int, fold: int | None, folds: int, folder: Path) -> None:
        """Write a prepared datalist at ``target``."""


@dataclass(frozen=True)
class Phantom:
    """Beating phantom hearts.

    Args:
        studies: training patients; a third as many validate.
        test_per_cell: test patients of each vendor and pathology, the same for every seed.
        reservoir_per_cell: further patients of each, from which a seed draws the other sections.
        development_per_cell: further patients of each in no other section of their seed, by whom recipes are chosen.
        minority_share: factor on the patients of GE and Canon.
        confounding: of vendor and pathology, see :func:`pipeline.cohort.phantom_plan.training_counts`.
        alignment: in place of ``confounding``: each vendor has a pathology of its own, see
            :func:`pipeline.cohort.phantom_plan.aligned_counts`.
        strength: of the scanners' appearance.
        group_by: columns of a group.
        preprocessing: overrides of the preprocessing bundle.
    """

    kind: ClassVar[str] = "phantom"
    studies: int = 272
    test_per_cell: int = 24
    reservoir_per_cell: int = 100
    development_per_cell: int = 0
    minority_share: float = 1.0
    confounding: float = 1.0
    alignment: float | None = None
    strength: float = 1.0
    group_by: tuple[str, ...] = ("vendor",)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    def check_folds(self, folds: int) -> None:
        """Phantoms have a test part: no cross-validation.

        Raises:
            ValueError: if there is more than one fold.
        """
        _one_fold(self.kind, folds)

    @property
    def per_cell(self) -> int:
        """Patients of each vendor and pathology in the pool."""
        return self.test_per_cell + self.reservoir_per_cell

    @cached_property
    def _of_pool(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "per_cell": self.per_cell,
            "strength": self.strength,
            "preprocessing": dict(self.preprocessing),
        }

    def pool(self, folder: Path, workers: int) -> None:
        """Balanced: ``test_per_cell + reservoir_per_cell`` patients of every vendor and pathology."""
        root = _pool_folder(folder, self._of_pool)

        def listed() -> Datalist:
            write_phantom(
                root / "raw",
                studies=FEWEST_STUDIES,
                strength=self.strength,
                test_per_cell=self.per_cell,
                workers=workers,
            )
            raw = import_mnms(root / "raw", classes=PATHOLOGIES, split="folders")
            return replace(raw, sections={"test": raw.sections["test"]})

        _prepare(root, listed, self.preprocessing, workers)

    def build(self, target: Path, *, seed: int, fold: int | None, folds: int, folder: Path) -> None:  # noqa: ARG002
        """Deal the sections from the reservoir, training by the table of counts that the dials ask for."""
        pool = _pool(folder, self._of_pool)
        dealt = dict(self.deal(pool.sections["test"], seed=seed))
        if development := dealt.pop(DEVELOPMENT):
            _write(pool, {"test": development}, self.group_by, target.with_name(DEVELOPMENT_DATALIST))
        _write(pool, dealt, self.group_by, target)

    def deal(self, cases: Iterable[Case], *, seed: int) -> Sections:
        """Cases of a pool by section, as :func:`pipeline.benchmark.deals.deal_table` deals them."""
        return deal_table(
            cases,
            self._counts(),
            test_per_cell=self.test_per_cell,
            seed=seed,
            development_per_cell=self.development_per_cell,
        )

    def _counts(self) -> NDArray[np.int_]:
        if self.alignment is not None:
            return aligned_counts(self.studies, alignment=self.alignment, minority_share=self.minority_share)
        wanted = Settings(studies=self.studies, minority_share=self.minority_share, confounding=self.confounding)
        return training_counts(wanted)


@dataclass(frozen=True)
class Acdc:
    """Real hearts of ACDC on simulated scanners of four vendors, by cross-validation over its patients.

    Args:
        classes: of ``pipeline.cohort.acdc.CLASSES``.
        strength: of the scanners' simulated appearance.
        group_by: columns of a group.
        preprocessing: overrides of the preprocessing bundle.
    """

    kind: ClassVar[str] = "acdc"
    classes: tuple[str, ...] = acdc.CLASSES
    strength: float = 1.0
    group_by: tuple[str, ...] = ("vendor",)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    def check_folds(self, folds: int) -> None:
        """Its patients are few: every one is tested, fold by fold.

        Raises:
            ValueError: if there is one fold only.
        """
        if folds < 2:
            raise ValueError(f"a plan on acdc must have at least 2 folds; got {folds}; write `folds: 5`")

    @cached_property
    def _of_pool(self) -> dict[str, Any]:
        own = {"classes": self.classes, "strength": self.strength, "preprocessing": dict(self.preprocessing)}
        return {"kind": self.kind, **own}

    def pool(self, folder: Path, workers: int) -> None:
        """Every patient under every vendor.

        Raises:
            FileNotFoundError: if ACDC is not there.
        """
        root = _pool_folder(folder, self._of_pool)

        def listed() -> Datalist:
            found = acdc.import_acdc(_real_data("acdc"), classes=self.classes)
            every = {"training": (), "validation": (), "test": ordered(case for _, case in found.cases())}
            simulated = acdc.simulate_like_mnms(every, seed=0)
            return replace(found, source="ACDC with simulated scanners", sections=simulated)

        _prepare(root, listed, {**self.preprocessing, "simulation_strength": self.strength}, workers)

    def build(self, target: Path, *, seed: int, fold: int | None, folds: int, folder: Path) -> None:
        """Deal the patients to folds; vendors of training by M&Ms' shares, every vendor in validation and test."""
        pool = _pool(folder, self._of_pool)
        dealt = deal_folds(pool.sections["test"], seed=seed, fold=fold or 0, folds=folds)
        _write(pool, dealt, self.group_by, target)


@dataclass(frozen=True)
class Digits:
    """Handwritten digits on photographs; every seed draws its own, of which the test part is balanced.

    Args:
        training: images.
        confounding: of class and place, see :func:`pipeline.cohort.digits.write_digits`.
        minority_share: factor on the images of the second place.
        test_per_cell: test images of each class at each place.
        pixels: height and width.
        group_by: columns of a group.
    """

    kind: ClassVar[str] = "digits"
    training: int = 1000
    confounding: float = 0.95
    minority_share: float = 1.0
    test_per_cell: int = 100
    pixels: int = 32
    group_by: tuple[str, ...] = ("site", "label")

    def check_folds(self, folds: int) -> None:
        """Digits have a test part: no cross-validation.

        Raises:
            ValueError: if there is more than one fold.
        """
        _one_fold(self.kind, folds)

    def pool(self, folder: Path, workers: int) -> None:
        """Nothing is shared: the images of a cohort are drawn in seconds."""

    def build(self, target: Path, *, seed: int, fold: int | None, folds: int, folder: Path) -> None:  # noqa: ARG002
        """Draw the images and import them as those of Waterbirds."""
        raw = target.parent / "raw"
        drawn = {key: value for key, value in asdict(self).items() if key != "group_by"}
        write_digits(raw, seed=seed, **drawn)
        recipe = NaturalImage(rows=self.pixels, cols=self.pixels)
        listed = import_waterbirds(
            raw,
            target.parent / "images",
            recipe=recipe,
            classes=CLASSES,
            places=PLACES,
            group_by=self.group_by,
            workers=1,
        )
        write_datalist(listed, target)


def _pool_folder(folder: Path, of_pool: Mapping[str, Any]) -> Path:
    return folder / "pools" / f"{of_pool['kind']}-{digest_of(of_pool)}"


def _pool(folder: Path, of_pool: Mapping[str, Any]) -> Datalist:
    return read_datalist(_pool_folder(folder, of_pool) / "prepared" / DATALIST)


def _prepare(root: Path, listed: Callable[[], Datalist], overrides: Mapping[str, Any], workers: int) -> None:
    """Prepare the studies of a pool by the preprocessing bundle, unless that was done."""
    if (root / "prepared" / DATALIST).is_file():
        return
    write_datalist(listed(), root / DATALIST)
    run_bundle(
        "cardiac_cine_preprocessing",
        ["preprocess.yaml"],
        {**overrides, "datalist": str(root / DATALIST), "output_dir": str(root / "prepared"), "num_workers": workers},
    )


def _write(pool: Datalist, sections: Sections, group_by: tuple[str, ...], target: Path) -> None:
    write_datalist(replace(pool, sections=sections, group_by=group_by, set_aside=(), notes=()), target)


def _one_fold(kind: str, folds: int) -> None:
    if folds != 1:
        raise ValueError(f"a plan on {kind} has no cross-validation; got {folds} folds; leave `folds` out")


def _real_data(name: str) -> Path:
    root = os.environ.get(REAL_DATA)
    if not root or not (Path(root) / name).is_dir():
        raise FileNotFoundError(
            f"real studies must lie in {name}/ of the folder that {REAL_DATA} names; it names {root!r}; set it"
        )
    return Path(root) / name
