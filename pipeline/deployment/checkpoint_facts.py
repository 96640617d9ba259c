"""What a checkpoint says of its model, as a package's manifest holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.deployment.manifest import INPUT, OUTPUT
from transforms.recipe import StudentInput

NO_RUN = ("", "None")  # as a training without tracking notes it
BIASED = "biased="  # before the run of the model that AGRE-KD's weights point away from


def exportable_recipe(state: Mapping[str, Any]) -> StudentInput:
    """The recipe of a checkpoint's inputs, which a hospital must be able to follow.

    Raises:
        ValueError: if the model reads photographs, this version would prepare studies otherwise, or numpy alone
            could not.
    """
    if "channels" in state["recipe"]:
        raise ValueError("a package is made for cine studies; the model reads photographs; export a cardiac student")
    recipe = StudentInput.from_dict(state["recipe"])
    if recipe.digest != state["recipe_digest"]:
        raise ValueError(
            f"this version must prepare studies as the model's training did, recipe {state['recipe_digest'][:12]}…; it "
            f"has {recipe.digest[:12]}…; train the model anew, or export with the version that trained it"
        )
    if not recipe.exportable:
        raise ValueError(
            "a hospital prepares studies with numpy alone; the model's recipe has bias_correction "
            f"{recipe.bias_correction!r} and extra_steps {list(recipe.extra_steps)}; train on studies prepared without"
        )
    return recipe


def likely_name(state: Mapping[str, Any]) -> str | None:
    """The name that the bundle's evaluation gives to its model."""
    role = str(state.get("bundle", "")).rpartition("_")[2]
    return f"{role} ({state['method']})" if role and "method" in state else None


def model_facts(state: Mapping[str, Any], recipe: StudentInput) -> dict[str, Any]:
    """Classes, input, training patients, runs and method."""
    column = " x ".join(_columns(state.get("group_by", ())))
    return {
        "classes": list(state["classes"]),
        "recipe": recipe.to_dict(),
        "recipe_digest": recipe.digest,
        "input_shape": list(recipe.shape),
        "input": INPUT,
        "output": OUTPUT,
        "training_groups": {column: dict(state["training_groups"])} if column else {},
        "runs": {
            "student": state.get("mlflow_run_id"),
            "teachers": _teachers(str(state.get("teacher_run_id") or "")),
        },
        "method": str(state.get("method", "unknown")),
    }


def _teachers(runs: str) -> list[str]:
    """Of the runs that a training lists, those it learned from: not the biased model that weights point away from."""
    return [run for run in runs.split(",") if run not in NO_RUN and not run.startswith(BIASED)]


def _columns(group_by: str | Sequence[str]) -> Sequence[str]:
    """Grouping columns of a checkpoint, whose settings join them by a dash."""
    return group_by.split("-") if isinstance(group_by, str) else group_by
