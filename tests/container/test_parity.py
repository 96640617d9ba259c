"""The container says what the trained network says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.dicom.cine import read_cine
from tests.container.engine import Engine
from tests.container.hearts import CLASSES, write_heart
from transforms.recipe import StudentInput, prepare_study

pytestmark = pytest.mark.container

TOLERANCE = 1e-4


@pytest.mark.parametrize("seed", [1, 5])
def test_probabilities_in_the_container_are_those_of_torch(
    engine: Engine, image: str, trained: tuple[Path, nn.Module], tmp_path: Path, out: Path, seed: int
) -> None:
    study = write_heart(tmp_path / "heart", seed=seed)
    cine = read_cine(sorted(study.iterdir()))
    prepared = prepare_study(cine.values, cine.affine, recipe=StudentInput())
    with torch.no_grad():
        expected = trained[1](torch.from_numpy(prepared.image[None])).softmax(1)[0].numpy()
    done = engine.run(image, volumes={study: "/input:ro", out: "/output"})
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "result.json").read_text())
    found = [result["prediction"]["probabilities"][name] for name in CLASSES]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert (result["cine"]["ed"], result["cine"]["es"]) == (prepared.ed, prepared.es)
    assert np.ptp(expected) > 100 * TOLERANCE  # else any network would agree
