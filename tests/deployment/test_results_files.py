"""Results appear whole or not at all, whatever fails and whenever the process dies."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import multiprocessing
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.deployment import file_set
from pipeline.deployment.file_set import WORK, publish
from pipeline.deployment.outcome import PackageIdentity
from pipeline.deployment.publish import write_failure, write_results
from pipeline.deployment.result_json import Failure, Output, result_document, to_json
from tests.deployment.readings import PACKAGE, READ, REFUSED

CALLS = ("mkdir", "open", "fsync", "replace", "rename", "unlink")  # of os: all that change a folder
KILLED = 9


def _results(text: bytes, *names: str) -> dict[str, bytes]:
    """Files and their list, as a reading leaves them."""
    outputs = [Output(name, "structured-report", name.encode() + text) for name in names]
    files = {output.name: output.content for output in outputs}
    return files | {"result.json": to_json(result_document(READ, outputs, software=text.decode()))}


OLD, NEW = _results(b"old", "1.dcm", "2.dcm", "both.dcm"), _results(b"new", "3.dcm", "both.dcm", "4.dcm")

THIRD = _results(b"third", "5.dcm")


class _Faults:
    """Counts what changes a folder, and lets the ``at``-th of it end in ``happens``."""

    def __init__(self, at: int, happens: Callable[[], None]) -> None:
        self.at, self.happens, self.count = at, happens, 0

    def step(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.happens()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            patch.setattr(os, name, self._counted(getattr(os, name)))
        opened = io.open

        def open_counted(*arguments: Any, **keywords: Any) -> Any:
            stream = opened(*arguments, **keywords)
            if stream.writable():
                self.step()
                return _Stream(stream, self)
            return stream

        patch.setattr(io, "open", open_counted)

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            self.step()
            return call(*arguments, **keywords)

        return counted


class _Stream:
    """A file of which half is on the disk when a write ends badly."""

    def __init__(self, stream: Any, faults: _Faults) -> None:
        self._stream, self._faults = stream, faults

    def write(self, content: bytes) -> None:
        self._stream.write(content[: len(content) // 2])
        self._stream.flush()
        self._faults.step()
        self._stream.write(content[len(content) // 2 :])

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _no_space() -> None:
    raise OSError(errno.ENOSPC, "no space left")


def _interrupted() -> None:
    raise KeyboardInterrupt


def _visible(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _until_done(run: Callable[[_Faults], int], happens: Callable[[], None]) -> Iterator[int]:
    """Let a run fail at its first step, its second, …, until it has no more: each time yield which step it was."""
    for at in range(1, 200):
        steps = run(_Faults(at, happens))
        if steps < at:
            assert steps > 10
            return
        yield at
    raise AssertionError("it never ends")


@pytest.mark.parametrize("before", [{}, OLD], ids=["empty", "older results"])
@pytest.mark.parametrize("happens", [_no_space, _interrupted])
def test_whichever_step_fails_the_folder_holds_what_it_held_or_nothing_or_all(
    before: dict[str, bytes], happens: Callable[[], None], tmp_path: Path
) -> None:
    """All: where only clearing up was left to do."""

    def run(faults: _Faults) -> int:
        shutil.rmtree(tmp_path)
        if before:
            publish(before, tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            faults.install(patch)
            with suppress(OSError, KeyboardInterrupt):
                publish(NEW, tmp_path)
        return faults.count

    for at in _until_done(run, happens):
        visible = _visible(tmp_path) if tmp_path.exists() else {}
        assert visible in ({}, before, NEW), f"step {at}"
        publish(NEW, tmp_path)
        assert _visible(tmp_path) == NEW, f"step {at}"
    assert _visible(tmp_path) == NEW


@pytest.mark.parametrize("before", [{}, OLD], ids=["empty", "older results"])
def test_wherever_it_is_killed_no_half_file_is_seen_and_the_next_run_clears_up(
    before: dict[str, bytes], tmp_path: Path
) -> None:
    """A process that is gone removes nothing: the next one must. What is nobody's stays."""

    def run(faults: _Faults) -> int:
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        (tmp_path / "theirs.dcm").write_bytes(b"theirs")
        if before:
            publish(before, tmp_path)
        fork = multiprocessing.get_context("fork")
        steps = fork.Value("i", faults.at)
        child = fork.Process(target=_publish_with, args=(faults, tmp_path, steps))
        child.start()
        child.join(60)
        assert child.exitcode == (0 if steps.value < faults.at else KILLED)
        return int(steps.value)

    for at in _until_done(run, lambda: os._exit(KILLED)):
        visible = _visible(tmp_path)
        assert visible.pop("theirs.dcm") == b"theirs"
        for name, content in visible.items():
            assert content in (before.get(name), NEW.get(name)), f"step {at}: {name}"
        if "result.json" in visible:
            assert visible in (before, NEW), f"step {at}"
        after = NEW if at % 2 else THIRD
        assert publish(after, tmp_path) == tuple(tmp_path / name for name in after)
        assert _visible(tmp_path) == after | {"theirs.dcm": b"theirs"}, f"step {at}"
        assert not list(tmp_path.glob(f"{WORK}*")), f"step {at}"


def _publish_with(faults: _Faults, folder: Path, steps: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        faults.install(patch)
        publish(NEW, folder)
    steps.value = faults.count


def test_results_of_another_content_take_the_place_of_older_ones(tmp_path: Path) -> None:
    publish(OLD, tmp_path)
    (tmp_path / "theirs.dcm").write_bytes(b"theirs")
    (tmp_path / "1.dcm").write_bytes(b"somebody wrote over it")
    publish(NEW, tmp_path)
    kept = {"theirs.dcm": b"theirs", "1.dcm": b"somebody wrote over it"}
    assert _visible(tmp_path) == NEW | kept


def test_the_same_results_again_touch_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(NEW, tmp_path)
    faults = _Faults(2, _no_space)  # the first makes the folder, if need be
    faults.install(monkeypatch)
    assert publish(NEW, tmp_path) == tuple(tmp_path / name for name in NEW)


@pytest.mark.parametrize("name", ["3.dcm", "result.json"])
def test_a_file_that_was_cut_short_since_is_written_again(name: str, tmp_path: Path) -> None:
    publish(NEW, tmp_path)
    (tmp_path / name).write_bytes(NEW[name][:4])
    publish(NEW, tmp_path)
    assert _visible(tmp_path) == NEW


@pytest.mark.parametrize(
    "listing",
    [
        b"{",
        b'{"format": "evenbeat-result", "outputs": 3}',
        b'{"format": "evenbeat-result", "outputs": [{"name": "../outside", "sha256": "HASH"}]}',
    ],
)
def test_a_list_that_is_not_ours_removes_nothing(listing: bytes, tmp_path: Path) -> None:
    digest = file_set.hashlib.sha256(b"theirs").hexdigest().encode()
    folder = tmp_path / "out"
    folder.mkdir()
    for path in (tmp_path / "outside", folder / "theirs.dcm"):
        path.write_bytes(b"theirs")
    (folder / "result.json").write_bytes(listing.replace(b"HASH", digest))
    publish(NEW, folder)
    assert (tmp_path / "outside").exists()
    assert _visible(folder) == NEW | {"theirs.dcm": b"theirs"}


@pytest.mark.parametrize("theirs", [b"[]", b'{"format": "another", "outputs": []}', b'{"findings": 3}'])
def test_a_list_of_another_program_is_never_written_over(theirs: bytes, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(theirs)
    with pytest.raises(FileExistsError, match=r"must hold no result\.json but ours; .+; name another folder"):
        publish(NEW, tmp_path)
    assert _visible(tmp_path) == {"result.json": theirs}


def test_a_folder_in_the_lists_place_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "result.json" / "theirs").mkdir(parents=True)
    with pytest.raises(FileExistsError, match=r"must hold no result\.json but ours"):
        publish(NEW, tmp_path)
    assert (tmp_path / "result.json" / "theirs").is_dir()


def test_two_runs_at_once_write_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second must not take the first's work for that of a run that was killed."""
    begun, go_on = threading.Event(), threading.Event()
    replace_files = file_set._replace

    def slowly(files: Any, *places: Any) -> None:
        if files is OLD:
            begun.set()
            assert go_on.wait(30)
        replace_files(files, *places)

    monkeypatch.setattr(file_set, "_replace", slowly)
    first, second = (threading.Thread(target=publish, args=(files, tmp_path)) for files in (OLD, NEW))
    first.start()
    assert begun.wait(30)
    second.start()
    second.join(0.3)
    assert second.is_alive()
    assert len(list(tmp_path.glob(f"{WORK}*"))) == 1
    go_on.set()
    for run in (first, second):
        run.join(30)
    assert _visible(tmp_path) == NEW
    assert not list(tmp_path.glob(f"{WORK}*"))


def test_a_folder_that_cannot_be_locked_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on network file systems that lock no folder."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EBADF, "bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    publish(NEW, tmp_path)
    assert _visible(tmp_path) == NEW


def test_owner_and_mode_are_never_set_and_no_file_leaves_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may be a mount of another owner: renaming across it, or chmod, would fail there."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    for name in ("chmod", "chown", "fchmod", "fchown", "lchown", "link", "symlink", "utime"):
        monkeypatch.setattr(os, name, refuse)
    moved = []
    replace_of_os = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append((Path(a), Path(b))), replace_of_os(a, b)))
    publish(OLD, tmp_path)
    publish(NEW, tmp_path)
    assert len(moved) == len(OLD) + len(NEW) + 1
    assert all(tmp_path in path.parents for pair in moved for path in pair)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to become somebody else")
def test_a_stranger_can_write_into_a_folder_of_another_owner() -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o777)
        os.chown(folder, 4242, 4242)
        child = multiprocessing.get_context("fork").Process(target=_publish_as, args=(12345, 54321, folder))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert _visible(folder) == NEW
        assert (folder / "result.json").stat().st_uid == 12345
    finally:
        shutil.rmtree(folder)


def _publish_as(uid: int, gid: int, folder: Path) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    publish(OLD, folder)
    publish(NEW, folder)


def test_a_folder_that_cannot_be_synchronised_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems know no fsync of folders."""
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112  a link, followed
            raise OSError(errno.EINVAL, "invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    publish(NEW, tmp_path)
    assert _visible(tmp_path) == NEW


def test_an_error_of_ours_is_written_as_a_result_and_replaces_an_older_one(tmp_path: Path) -> None:
    write_results(READ, tmp_path)
    failure = Failure("MemoryError", "pipeline.deployment.job:63")
    (path,) = write_failure(failure, tmp_path, study_key=READ.study_key, package=PACKAGE)
    document = json.loads(path.read_bytes())
    assert document["status"] == "failed"
    assert document["failure"] == {"error": "MemoryError", "place": "pipeline.deployment.job:63"}


def test_a_new_package_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    import numpy as np

    from tests.deployment.readings import source

    given = source()
    picture = np.zeros((4, 4, 3), np.uint8)
    write_results(given.outcome, tmp_path, headers=given.headers, picture=picture, sources=given.sources)
    before = set(_visible(tmp_path))
    package = PackageIdentity(PACKAGE.name, "0.6.0", "ef56" * 16, PACKAGE.recipe_digest)
    outcome = replace(given.outcome, package=package)
    write_results(outcome, tmp_path, headers=given.headers, picture=picture, sources=given.sources)
    assert before & set(_visible(tmp_path)) == {"result.json", "summary.png"}
    assert len(_visible(tmp_path)) == 4
    write_results(REFUSED, tmp_path)
    assert set(_visible(tmp_path)) == {"result.json"}
