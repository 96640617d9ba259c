"""Inputs to check a network with when no prepared studies are at hand: rendered hearts, prepared as any study is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.cohort.phantom import affine_of, render_study
from pipeline.cohort.phantom_plan import Settings, draw_studies
from transforms.recipe import StudentInput, prepare_study


def rendered_inputs(recipe: StudentInput) -> NDArray[np.float32]:
    """Inputs ``(2, 2, slices, rows, cols)`` of synthetic hearts on two simulated scanners, always the same ones."""
    settings = Settings(studies=11, test_per_cell=1)
    drawn = [study for study in draw_studies(settings) if study.part == "Testing"]
    studies = [(render_study(study, settings)[0], affine_of(study)) for study in (drawn[0], drawn[-1])]
    return np.stack([prepare_study(cine, affine, recipe=recipe).image for cine, affine in studies])
