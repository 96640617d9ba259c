"""Teachers' answers, computed once per view of a case and kept: distillation then costs what plain training costs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from pipeline.files import atomic_path
from pipeline.training.checkpoint import build_network, checked_model
from pipeline.training.processes import first_process_only
from pipeline.training.views import AugmentedViews


def teacher_logits(
    checkpoints: Sequence[str | Path],
    dataset: AugmentedViews,
    *,
    recipe_digest: str,
    classes: Sequence[str],
    folder: str | Path,
    device: torch.device | str,
    batch_size: int = 64,
) -> Tensor:
    """Logits of every teacher on every view of every case, from the files in ``folder`` or computed into them.

    One file per teacher, ``logits-<key>.safetensors``. Its name and its metadata follow from the SHA-256 of the
    teacher's ``model.pt``, the recipe and the digest of the views, which holds cases, files and augmentation seed:
    another teacher at the same path has another file. All of it is compared again when a file is read, and so is the
    SHA-256 of the logits. In a group of processes call it in all: the first computes, all read.

    Args:
        checkpoints: paths of the teachers' ``model.pt``.
        dataset: the N cases in their views.
        recipe_digest: of the prepared studies.
        classes: of the datalist, in order.
        folder: where the files lie.
        device: where the teachers run.
        batch_size: images at once.

    Returns:
        ``(K, views, N, C)``, float32, on the CPU; teachers in the order given.

    Raises:
        FileNotFoundError: if a teacher is missing.
        ValueError: if a teacher was made for another recipe or other classes, or a file of logits is damaged or not
            what its name says.
    """
    dataset.render()
    records = [_record(path, dataset, recipe_digest, classes) for path in checkpoints]
    paths = [_path(Path(folder), record) for record in records]

    def compute() -> None:
        for checkpoint, record, path in zip(checkpoints, records, paths, strict=True):
            if not path.is_file():
                network = build_network(checked_model(checkpoint, recipe_digest, classes)).to(device)
                _write(path, record, _answers(network, dataset, torch.device(device), batch_size))

    first_process_only(compute)
    return torch.stack([_read(path, record) for path, record in zip(paths, records, strict=True)])


def _record(
    checkpoint: str | Path, dataset: AugmentedViews, recipe_digest: str, classes: Sequence[str]
) -> dict[str, str]:
    """What a file of logits must say of itself."""
    checked_model(checkpoint, recipe_digest, classes)
    return {
        "teacher": hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
        "recipe": recipe_digest,
        "views": dataset.digest,
        "shape": json.dumps([dataset.views, len(dataset), len(classes)]),
    }


def _path(folder: Path, record: Mapping[str, str]) -> Path:
    key = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return folder / f"logits-{key[:16]}.safetensors"


@torch.no_grad()
def _answers(network: torch.nn.Module, dataset: AugmentedViews, device: torch.device, batch_size: int) -> Tensor:
    """Logits ``(views, N, C)`` of one network in evaluation mode."""
    cases = range(len(dataset))
    answers: list[Tensor] = []
    with tqdm(total=dataset.views * len(dataset), desc="teacher's logits", unit="view") as progress:
        for view in range(dataset.views):
            for start in cases[::batch_size]:
                images = torch.stack([dataset.image(index, view) for index in cases[start : start + batch_size]])
                answers.append(network(images.to(device)).float().cpu())
                progress.update(len(images))
    return torch.cat(answers).unflatten(0, (dataset.views, len(dataset)))


def _write(path: Path, record: Mapping[str, str], logits: Tensor) -> None:
    with atomic_path(path) as temporary:
        save_file({"logits": logits}, temporary, metadata={**record, "sha256": _payload_digest(logits)})


def _read(path: Path, record: Mapping[str, str]) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            found = file.metadata() or {}
            logits: Tensor = file.get_tensor("logits")
    except (SafetensorError, UnicodeDecodeError) as error:
        raise ValueError(_refusal(path, f"it cannot be read ({error})")) from error
    found = {**found, "tensor": f"{logits.dtype} {list(logits.shape)}"}
    expected = {**record, "sha256": _payload_digest(logits), "tensor": f"torch.float32 {record['shape']}"}
    if found != expected:
        differing = sorted(key for key in {*expected, *found} if found.get(key) != expected.get(key))
        values = ", ".join(f"{key} {found.get(key)!r} in place of {expected.get(key)!r}" for key in differing)
        raise ValueError(_refusal(path, f"it has {values}"))
    return logits


def _refusal(path: Path, what: str) -> str:
    return (
        f"{path} must hold the logits of this teacher on these views, but {what}; delete it, and they are computed anew"
    )


def _payload_digest(logits: Tensor) -> str:
    return hashlib.sha256(logits.contiguous().numpy().tobytes()).hexdigest()
