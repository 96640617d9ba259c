"""A student package made by hand, without torch: a tiny network of known answers, and every field of the manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.deployment.package import AUDIT, CARD, INPUT, MANIFEST, ONNX, OUTPUT
from pipeline.deployment.package_folder import manifest_bytes
from transforms.recipe import StudentInput

CLASSES = ("NOR", "HCM", "DCM")
RECIPE = StudentInput(rows=32, cols=32, slices=4)
LOGITS = (0.5, 2.0, -1.0)  # of every study


def entry(column: str, group: str, n: int, *, measure: str = "accuracy", interval: bool = True) -> dict[str, Any]:
    """One row of an envelope."""
    value = None if n == 0 else 0.8
    low, high = (0.7, 0.9) if interval and n else (None, None)
    reason = "" if low is not None else "too few patients"
    return {"column": column, "group": group, "measure": measure, "n_patients": n, "value": value, "low": low,
            "high": high, "reason": reason}  # fmt: skip


def envelope(**changes: Any) -> dict[str, Any]:
    """Audited on Siemens; too few of GE; none of Canon."""
    groups = [entry("vendor", "Siemens", 40), entry("vendor", "GE", 4, interval=False), entry("vendor", "Canon", 0)]
    whole = {"columns": ["vendor"], "level": 0.95, "measures": ["accuracy"], "model": "student (groupdistil)",
             "left_out": ["site"], "groups": groups, "all": [entry("all", "all", 44)]}  # fmt: skip
    return {**whole, **changes}


def manifest(**changes: Any) -> dict[str, Any]:
    """Everything that a manifest says but the files."""
    whole = {
        "format": "evenbeat-package",
        "version": 1,
        "name": "cardiac_cine_student",
        "package_version": "1.2.3",
        "created_with": "evenbeat 1.2.3",
        "classes": list(CLASSES),
        "recipe": RECIPE.to_dict(),
        "recipe_digest": RECIPE.digest,
        "input_shape": list(RECIPE.shape),
        "input": INPUT,
        "output": OUTPUT,
        "training_groups": {"vendor": {"Siemens": 90, "GE": 12}},
        "runs": {"student": "s1", "teachers": ["t1", "t2"]},
        "method": "groupdistil",
        "precision": "float32",
        "operating_threshold": {"class": "DCM", "threshold": 0.4},
        "envelope": envelope(),
        "audit": None,
        "int8": None,
        "checked_with": {"inputs": "nothing", "cases": 0, "audit_reproduced": False},
        "reference": None,
    }
    return {**whole, **changes}


def network(recipe: StudentInput = RECIPE) -> bytes:
    """ONNX: the logits ``LOGITS`` plus the mean of the study."""
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["cases", *recipe.shape])
    logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["cases", len(LOGITS)])
    nodes = [
        helper.make_node("ReduceMean", [INPUT, "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["means"]),
        helper.make_node("Add", ["means", "bias"], [OUTPUT]),
    ]
    constants = {"axes": np.array([1, 2, 3, 4]), "column": np.array([-1, 1]), "bias": np.array([LOGITS], np.float32)}
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "student", [image], [logits], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def made_package(folder: Path, said: Mapping[str, Any] | None = None, *, onnx: bytes | None = None) -> Path:
    """Write a package that is right in every byte, whatever its manifest says.

    Args:
        folder: made.
        said: the manifest; :func:`manifest` by default.
        onnx: the network; :func:`network` by default.
    """
    files = {ONNX: onnx or network(), AUDIT: b'{"version": 2}\n', CARD: b"# A student\n"}
    folder.mkdir(parents=True)
    for name, content in {**files, MANIFEST: manifest_bytes(said or manifest(), files)}.items():
        (folder / name).write_bytes(content)
    return folder


def rewrite(folder: Path, **changes: Any) -> Path:
    """Change what a package's manifest says, and nothing else."""
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder
