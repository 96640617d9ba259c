"""What a subject's case is made of: the cine wherever ED and ES can be told in it, else the pair of volumes."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.cohort.mnms2_tree import (
    AFFINE,
    ED,
    ES,
    SHAPE,
    Tree,
    cine_of,
    notes_on,
    reason,
    save,
    the_case,
)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "MnM2")


def test_a_cine_stored_on_another_scale_is_matched(tree: Tree) -> None:
    """Intensities may be scaled on the way to one of the files; the anatomy is what must agree."""
    cine = tree.subject(1).astype(np.float32)
    save(tree.path(1, "CINE"), cine * np.float32(0.37) + 5)
    case = the_case(tree.imported())
    assert (case.image, case.ed, case.es) == (tree.path(1, "CINE"), ED, ES)


def test_the_nearest_phase_is_taken_where_none_is_exactly_the_volume(tree: Tree) -> None:
    """Rounded on its way: one grey value of 300, far less than between phases."""
    cine = tree.subject(1)
    save(tree.path(1, "ES"), cine[..., ES] + np.random.default_rng(1).integers(0, 2, SHAPE[:3]).astype(np.int16))
    case = the_case(tree.imported())
    assert (case.ed, case.es) == (ED, ES)


def pair_is_taken(tree: Tree, said: str) -> None:
    """The case is the pair of volumes, with a note that ends so."""
    datalist = tree.imported()
    case = the_case(datalist)
    assert (case.image, case.ed, case.es) == (None, None, None)
    assert (case.image_ed, case.image_es) == (tree.path(1, "ED"), tree.path(1, "ES"))
    assert (case.mask_ed, case.mask_es) == (tree.path(1, "ED_gt"), tree.path(1, "ES_gt"))
    assert notes_on(datalist, "mnms2-001")[-1].endswith(said)


def test_a_volume_that_several_phases_are_makes_the_pair_the_case(tree: Tree) -> None:
    """A frame that was copied: which of the two it is cannot be told."""
    cine = tree.subject(1)
    cine[..., 5] = cine[..., ED]
    save(tree.path(1, "CINE"), cine)
    pair_is_taken(tree, "instead of the cine, in which ED cannot be told: no phase fits, or several do")


def test_volumes_that_no_phase_is_make_the_pair_the_case(tree: Tree) -> None:
    """The cine of another subject, with the same chest size: it must not lend its phases."""
    tree.subject(1)
    save(tree.path(1, "CINE"), cine_of(99))
    pair_is_taken(tree, "in which ED and ES cannot be told: no phase fits, or several do")


def test_an_inverted_volume_does_not_match(tree: Tree) -> None:
    """Correlation -1 is no fit."""
    cine = tree.subject(1)
    save(tree.path(1, "ED"), (1000 - cine[..., ED]).astype(np.int16))
    pair_is_taken(tree, "in which ED cannot be told: no phase fits, or several do")


def test_two_volumes_of_one_phase_make_the_pair_the_case(tree: Tree) -> None:
    """ED = ES is no cycle, and no record of a datalist."""
    cine = tree.subject(1)
    save(tree.path(1, "ES"), cine[..., ED])
    pair_is_taken(tree, f"instead of the cine, in which both are phase {ED}")


def test_a_cine_of_another_shape_makes_the_pair_the_case(tree: Tree) -> None:
    """A slice more in the cine."""
    cine = tree.subject(1)
    save(tree.path(1, "CINE"), np.concatenate([cine, cine[:, :, :1]], axis=2))
    pair_is_taken(tree, "instead of the cine, whose shape is (12, 10, 4, 6) and theirs (12, 10, 3)")


@pytest.mark.parametrize("axes", [(1.0, 1.0, 10.0), (-1.5, 1.5, 10.0)])
def test_a_cine_that_lies_otherwise_makes_the_pair_the_case(tree: Tree, axes: tuple[float, float, float]) -> None:
    """Same voxels, other spacing or direction: one of the headers is wrong, and it is not known which."""
    cine = tree.subject(1)
    save(tree.path(1, "CINE"), cine, np.diag([*axes, 1.0]))
    pair_is_taken(tree, "instead of the cine, whose spacing or directions differ from theirs")


def test_another_origin_does_not_matter(tree: Tree) -> None:
    """The heart is found in the volume, not in the room."""
    cine = tree.subject(1)
    moved = AFFINE.copy()
    moved[:3, 3] = 40.0
    save(tree.path(1, "CINE"), cine, moved)
    assert the_case(tree.imported()).ed == ED


def test_a_cine_that_is_no_cine_makes_the_pair_the_case(tree: Tree) -> None:
    """Missing, text, a volume, two phases: each with its reason."""
    cine = tree.subject(1)
    path = tree.path(1, "CINE")
    path.unlink()
    pair_is_taken(tree, "there is no CINE")
    path.write_text("not an image")
    pair_is_taken(tree, "CINE left out, image cannot be read: 001_SA_CINE.nii.gz, ImageFileError")
    save(path, cine[..., 0])
    pair_is_taken(tree, "CINE left out, image must have 4 dimensions: 001_SA_CINE.nii.gz has shape (12, 10, 3)")
    save(path, cine[..., :2])
    pair_is_taken(tree, "CINE left out, it has 2 phases")


def test_a_cine_whose_pixels_cannot_be_read_makes_the_pair_the_case(tree: Tree) -> None:
    """Cut off in the middle: the header is good. One such file is known in the public set."""
    tree.subject(1)
    path = tree.path(1, "CINE")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pair_is_taken(tree, "instead of the cine, pixels cannot be read: 001_SA_CINE.nii.gz, EOFError")


def test_without_both_volumes_the_phases_are_found_later(tree: Tree) -> None:
    """One missing, unlike shapes, pixels that cannot be read; masks that fit stay."""
    cine = tree.subject(1)
    path = tree.path(1, "ES")

    def the_cine_is_taken(said: list[str]) -> None:
        datalist = tree.imported()
        case = the_case(datalist)
        assert (case.image, case.ed, case.es) == (tree.path(1, "CINE"), None, None)
        assert (case.image_ed, case.mask_ed) == (None, tree.path(1, "ED_gt"))
        assert notes_on(datalist, "mnms2-001") == [*said, "ED and ES are found from the cine while preprocessing"]

    path.unlink()
    the_cine_is_taken(["there is no ES"])
    save(path, cine[:, :, :2, 0])
    the_cine_is_taken(["ED and ES have unlike shapes: (12, 10, 3) and (12, 10, 2)"])
    raw = gzip.compress(nibabel.Nifti1Image(cine[..., ES], AFFINE).to_bytes()[:-40])
    path.write_bytes(raw)
    the_cine_is_taken(["pixels cannot be read: 001_SA_ES.nii.gz, OSError"])


def test_a_subject_without_cine_and_pair_is_set_aside(tree: Tree) -> None:
    """With all that was missing."""
    tree.subject(1)
    tree.subject(2)
    for kind in ("CINE", "ED"):
        tree.path(2, kind).unlink()
    datalist = tree.imported()
    assert the_case(datalist).case_id == "mnms2-001"
    assert reason(datalist, "mnms2-002") == "folder has neither a cine nor a pair: there is no CINE; there is no ED"


def test_masks_that_do_not_fit_are_left_out_and_the_subject_kept(tree: Tree) -> None:
    """Masks only measure how well the heart is found; one alone measures nothing."""
    tree.subject(1)
    tree.subject(2)
    save(tree.path(1, "ED_gt"), np.zeros((12, 10, 4), np.uint8))
    tree.path(2, "ES_gt").unlink()
    datalist = tree.imported()
    assert {case.case_id: (case.mask_ed, case.mask_es) for _, case in datalist.cases()} == {
        "mnms2-001": (None, None),
        "mnms2-002": (None, None),
    }
    assert notes_on(datalist, "mnms2-001") == ["mask left out, its shape is (12, 10, 4) and the image's (12, 10, 3)"]
