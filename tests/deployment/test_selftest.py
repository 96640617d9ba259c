"""The self-test passes with a package that works, and says of any other that it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.deployment import selftest as tested
from pipeline.deployment.selftest import SelftestError, beating_heart, selftest
from tests.deployment.tiny_package import tiny_onnx, tiny_package
from transforms.geometry import orient_short_axis, spacing_mm


def test_a_package_that_works_passes_and_tells_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = tiny_package(tmp_path / "p")
    assert main(["selftest", "--package", str(package.folder), "--expect-digest", package.digest]) == 0
    said = capsys.readouterr().out
    for part in (package.digest, package.recipe.digest, "onnxruntime 1.", "envelope: vendor", "peak memory", "threads"):
        assert part in said
    assert f"{package.digest}, as expected\n" in said


def test_it_says_that_no_digest_is_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a variable that was not set: without a word, any package would do."""
    monkeypatch.delenv("EVENBEAT_PACKAGE_DIGEST", raising=False)
    assert main(["selftest", "--package", str(tiny_package(tmp_path / "p").folder)]) == 0
    assert "no digest is expected" in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["no package", "another digest", "a file changed", "network of other classes"])
def test_a_package_that_does_not_work_fails_with_status_1(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = tiny_onnx(5) if broken.startswith("network") else None
    package = tiny_package(tmp_path / "p", onnx=network)
    if broken == "a file changed":
        package.onnx_path.write_bytes(b"other")
    options = ["--expect-digest", "ab" * 32] if broken == "another digest" else []
    folder = tmp_path / ("nowhere" if broken == "no package" else "p")
    assert main(["selftest", "--package", str(folder), *options]) == 1
    assert capsys.readouterr().err.startswith("evenbeat selftest: ")


def test_a_preparation_that_finds_other_phases_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heart backwards by a quarter of its cycle."""
    cine, affine = beating_heart()
    monkeypatch.setattr(tested, "beating_heart", lambda: (np.roll(cine, 5, axis=0), affine))
    with pytest.raises(SelftestError, match="phases must be about 0 and 10"):
        selftest(tiny_package(tmp_path / "p"))


def test_the_synthetic_heart_lies_as_short_axis_stacks_do() -> None:
    cine, affine = beating_heart()
    assert spacing_mm(affine) == pytest.approx((10, 2, 2))
    assert np.linalg.det(affine[:3, :3]) != 0
    assert np.allclose(affine[:3, :3].T @ affine[:3, :3], np.diag([4, 4, 100]))
    oriented, _ = orient_short_axis(cine, affine)
    assert np.array_equal(oriented, cine)
    assert np.array_equal(cine[1:], cine[1:][::-1])  # the second half of the cycle mirrors the first
