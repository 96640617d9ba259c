"""Augmented copies of every case, rendered once: what a teacher answered on them can be kept."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import monai
import numpy as np
import torch
from monai.transforms import Compose
from monai.utils import convert_to_tensor
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from pipeline.files import atomic_path, file_digest
from pipeline.training import augmentation as source
from pipeline.training.processes import first_process_only
from pipeline.training.randomness import generators_kept

KEY = source.KEY


class AugmentedViews(Dataset[dict[str, Any]]):
    """Cases, each in several augmented copies ("views") that are the same in every epoch, run and process.

    View v of a case is a pure function of the seed, the case id, v, the image and the augmentation: neither other
    cases nor the order of drawing matter. All views lie in one file, ``folder/views-<digest>.npy``, float16 ``(views,
    N, *shape)``, with a record beside it; it is rendered when it is first needed and mapped into memory, so that a
    batch costs one read of its cases. An epoch shows one view of each case: call :meth:`set_epoch` as it starts.

    Args:
        items: one dictionary per case, with ``image`` (path of a file) and ``case_id``.
        load: makes of an item a dictionary with the pixels under ``image``, all of one shape.
        augmentation: random change of ``{"image": tensor}``; ``None`` for the images as they are.
        views: copies of each case; 1 without augmentation.
        seed: of the augmentation.
        folder: where the file of views lies; one folder may hold those of many cohorts.
        identity: JSON values that decide pixels beside the files themselves: recipe digest, augmentation settings.
        workers: processes that render; 0 renders in this one.

    Raises:
        ValueError: if ``views`` is not positive, or exceeds 1 without augmentation.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "a.npy", np.ones((2, 1, 4, 4)))
        >>> items = [{"image": str(folder / "a.npy"), "case_id": "a", "label": 0}]
        >>> cases = AugmentedViews(
        ...     items, lambda item: {"image": np.load(item["image"])}, None, views=1, seed=0, folder=folder, identity={}
        ... )
        >>> cases[0]["image"].shape, cases[0]["index"], cases[0]["view"]
        (torch.Size([2, 1, 4, 4]), 0, 0)
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        load: Callable[[dict[str, Any]], Mapping[Any, Any]],
        augmentation: Compose | None,
        *,
        views: int,
        seed: int,
        folder: str | Path,
        identity: Mapping[str, Any],
        workers: int = 0,
    ) -> None:
        if views < 1 or (augmentation is None and views > 1):
            raise ValueError(
                f"views must be at least 1, and 1 without augmentation, where all would be equal; got {views} "
                f"{'without' if augmentation is None else 'with'} augmentation; correct views or add augmentation"
            )
        self.items = [dict(item) for item in items]
        self.load = load
        self.augmentation = augmentation
        self.views = views
        self.seed = seed
        self.folder = Path(folder)
        self.identity = dict(identity)
        self.workers = workers
        self._pixels: Tensor | None = None
        self._shown = torch.zeros((), dtype=torch.int64).share_memory_()  # loaders' workers that live on see it change

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One case in this epoch's view: its item, with ``image`` float32 ``(*shape)``, ``index`` and ``view``."""
        view = int(self._shown)
        return {**self.items[index], KEY: self.image(index, view), "index": index, "view": view}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}  # another process maps the file itself: a copy would hold it all

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides the views: cases in order and their files, seed, number, identity, software."""
        files = [[item["case_id"], file_digest(Path(item[KEY]))] for item in self.items]
        software = [monai.__version__, Path(source.__file__).read_text(encoding="utf-8")]
        decisive = [files, self.seed, self.views, self.augmentation is not None, self.identity, software]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @property
    def path(self) -> Path:
        """The file of all views."""
        return self.folder / f"views-{self.digest[:16]}.npy"

    def set_epoch(self, epoch: int) -> None:
        """Show view ``(epoch - 1) % views`` of every case; epochs count from 1. Renders, if that is still to do."""
        self.render()
        self._shown.fill_((epoch - 1) % self.views)

    def image(self, index: int, view: int) -> Tensor:
        """One view of one case, float32 ``(*shape)``, a copy."""
        self.render()
        assert self._pixels is not None  # noqa: S101  render() mapped it or raised
        return self._pixels[view, index].float()

    def render(self) -> None:
        """Write the file of views unless it is there, and map it into memory.

        In a group of processes the first renders and the others wait: call it in all of them, and before a loader
        starts its workers, as :meth:`set_epoch` does.

        Raises:
            ValueError: if the file is damaged or not these views, or an image does not fit.
        """
        if self._pixels is None:
            first_process_only(self._write)
            self._check()
            self._pixels = torch.from_numpy(np.load(self.path, mmap_mode="c"))

    def _write(self) -> None:
        if self.path.is_file():
            return
        with atomic_path(self.path) as pixels:
            with pixels.open("wb") as file:
                self._stream(file)
            record = {
                "digest": self.digest,
                "sha256": file_digest(pixels),
                "views": self.views,  # this and what follows is for who reads the folder
                "seed": self.seed,
                "identity": self.identity,
            }
            with atomic_path(self.path.with_suffix(".json")) as beside:
                beside.write_text(json.dumps(record, indent=1), encoding="utf-8")

    def _stream(self, file: BinaryIO) -> None:
        """All views, one after the other: a full disk is an error here, which it is not in a mapped file."""
        shape = self.draw(0).shape
        header = {"descr": "<f2", "fortran_order": False, "shape": (self.views, len(self), *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        generator = torch.Generator()  # else the loader draws from the generator that training uses
        drawn = DataLoader(_Drawn(self), batch_size=None, num_workers=self.workers, generator=generator)
        for number, image in enumerate(tqdm(drawn, desc="augmented views", unit="view")):
            if image.shape != shape:
                raise ValueError(
                    f"all images must have one shape, got {tuple(image.shape)} for {self._case(number)} and "
                    f"{tuple(shape)} for {self._case(0)}; prepare them with one recipe"
                )
            file.write(image.numpy().astype("<f2", copy=False).tobytes())

    def draw(self, number: int) -> Tensor:
        """View ``number // N`` of case ``number % N``, rendered now, float16."""
        view, index = divmod(number, len(self))
        item = self.items[index]
        image = convert_to_tensor(self.load(dict(item))[KEY], dtype=torch.float32, track_meta=False)
        if self.augmentation is not None:
            name = json.dumps([self.seed, item["case_id"], view])
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
            with _seeded(seed):
                self.augmentation.set_random_state(seed=seed)
                image = convert_to_tensor(self.augmentation({KEY: image})[KEY], track_meta=False)
        half: Tensor = image.half()
        if not half.isfinite().all():
            raise ValueError(
                f"views are kept in 16 bits, so that pixels must be finite and within ±65504; {self._case(number)} has "
                f"{image.min():g} to {image.max():g}; standardise the images"
            )
        return half

    def _case(self, number: int) -> str:
        return str(self.items[number % len(self)]["case_id"])

    def _check(self) -> None:
        """Refuse a file that is not what was rendered for these cases."""
        try:
            record = json.loads(self.path.with_suffix(".json").read_text(encoding="utf-8"))
            found = {"digest": record["digest"], "sha256": record["sha256"]}
        except (OSError, ValueError, KeyError, TypeError):
            found = {"record": "missing or unreadable"}
        expected = {"digest": self.digest, "sha256": file_digest(self.path)}
        if found != expected:
            raise ValueError(
                f"{self.path} must hold the views that were rendered for these cases: expected {expected}, its record "
                f"says {found}; delete it, and the views are rendered anew"
            )


class _Drawn(Dataset[Tensor]):
    """All views, one after the other, rendered as they are asked for."""

    def __init__(self, cases: AugmentedViews) -> None:
        self.cases = cases

    def __len__(self) -> int:
        return self.cases.views * len(self.cases)

    def __getitem__(self, number: int) -> Tensor:
        return self.cases.draw(number)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators, which some transforms draw from, seeded for a while and then put back."""
    with generators_kept():
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs as well
        yield
