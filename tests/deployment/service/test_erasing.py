"""What is erased, when, and by whom."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from benchmarks.tiny_studies import study_uid, tiny_study
from pipeline.cli import main
from pipeline.deployment.service.database import NAME, Database
from pipeline.deployment.service.deliveries import Deliveries
from pipeline.deployment.service.identity import Identity, study_key_of
from pipeline.deployment.service.inbox import Inbox
from pipeline.deployment.service.layout import InUseError, Layout
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.retention import erase, expire, key_of
from pipeline.deployment.service.settings import Delivery, Limits, Retention
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import TOO_LARGE, State
from tests.deployment.service.support import results, running, send, settings, wait_for

KEY = study_key_of(study_uid(1))


def test_erase_removes_everything_of_a_study_while_the_service_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(settings(tmp_path)) as (service, _):
        for number in (1, 2):
            send(service.ports[0], tiny_study(number, 2))
        wait_for(lambda: len(results(tmp_path)) == 2)
        wait_for(lambda: service._store.counts()["done"] == 2)
        assert main(["erase", study_uid(1), "--state", str(tmp_path)]) == 0
        assert capsys.readouterr().out == f"study {KEY}: removed 2 received files, 2 files of results, 2 rows\n"
        assert not [path for path in tmp_path.rglob("*") if KEY in path.name]
        assert list(results(tmp_path)) == [f"{study_key_of(study_uid(2))}/1"]
        assert send(service.ports[0], tiny_study(1, 1)) == [0], "it may come again, as a new study"
        wait_for(lambda: results(tmp_path).get(f"{KEY}/1", {}).get("instances") == 1)


def test_a_study_that_was_too_large_may_come_again_once_it_is_erased(tmp_path: Path) -> None:
    """Its mark goes with it, and counts as no file."""
    with running(settings(tmp_path, limits=Limits(study_mb=0.01, free_disk_mb=0))) as (service, _):
        assert send(service.ports[0], tiny_study(1, 1) + tiny_study(1, 1, first=1, pixels=15_000)) == [0, 0xC004]
        assert erase(tmp_path, KEY).inbox_files == 1
        assert send(service.ports[0], tiny_study(1, 1)) == [0]
        wait_for(lambda: results(tmp_path))


def test_erase_waits_for_a_study_that_is_being_read(tmp_path: Path) -> None:
    with running(settings(tmp_path), seconds="1") as (service, _):
        send(service.ports[0], tiny_study(1, 1))
        wait_for(lambda: service._store.counts()["processing"])
        with pytest.raises(InUseError, match=f"{KEY} is being read"):
            erase(tmp_path, KEY, patience_s=0)
        assert erase(tmp_path, KEY).inbox_files == 1
    assert not [path for path in tmp_path.rglob("*") if KEY in path.name]


@pytest.mark.parametrize("study", ["Doe^Jane", "123", "../x", "", "1.2.3/..", "1..2"])
def test_what_is_neither_uid_nor_key_erases_nothing(study: str) -> None:
    with pytest.raises(ValueError, match="must be a StudyInstanceUID") as refused:
        key_of(study)
    assert not study or study not in str(refused.value)


def test_uid_and_key_name_the_same_study() -> None:
    assert key_of(study_uid(1)) == key_of(KEY) == KEY


def test_a_folder_that_is_no_services_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["erase", KEY, "--state", str(tmp_path)]) == 2
    assert "no service's database" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_after_retention_inbox_and_results_go_and_what_was_not_read_stays(tmp_path: Path) -> None:
    with running(settings(tmp_path)) as (service, _):
        send(service.ports[0], tiny_study(1, 2))
        wait_for(lambda: service._store.counts()["done"])
        store, arguments = service._store, (service._inbox, service._layout)
        assert expire(store, *arguments, Retention(1, 2), service._log) == 0
        store.clock = lambda: time.time() + 1.5 * 3600
        assert expire(store, *arguments, Retention(1, 2), service._log) == 1
        assert not service._inbox.files(KEY)
        assert f"{KEY}/1" in results(tmp_path), "results stay longer"
        store.clock = lambda: time.time() + 2.5 * 3600
        store.received("b" * 16)
        assert expire(store, *arguments, Retention(1, 2), service._log) == 1
        assert not results(tmp_path)
        keys = {row["study_key"] for row in store.database.rows("SELECT study_key FROM studies")}
        assert keys == {"b" * 16}


def test_a_service_looks_for_what_has_had_its_time_by_itself(tmp_path: Path) -> None:
    with running(settings(tmp_path, retention=Retention(1, 2))) as (service, _):
        send(service.ports[0], tiny_study(1, 2))
        wait_for(lambda: service._store.counts()["done"])
        service._store.clock = lambda: time.time() + 3 * 3600
        service._next_round = 0
        assert service.look_after()
        assert not service._inbox.files(KEY)
        assert not results(tmp_path)


def test_what_is_parked_for_an_error_stays_to_be_tried_again_and_what_is_too_large_goes(tmp_path: Path) -> None:
    layout, now = Layout(tmp_path), time.time()
    layout.prepare()
    inbox, store = Inbox(layout.inbox), Store(Database(tmp_path / NAME), lambda: now)
    for key, reason in (("a" * 16, "READER_ERROR"), ("b" * 16, TOO_LARGE)):
        with inbox.part(b"x") as part:
            inbox.place(part, Identity(key, "1" * 32))
        store.park(key, reason)
    inbox.mark_too_large("b" * 16)
    now += 9 * 3600
    assert expire(store, inbox, layout, Retention(1, 2), Log(io.StringIO()), lambda: True) == 0, "it stops"
    assert expire(store, inbox, layout, Retention(1, 2), Log(io.StringIO())) == 1
    assert inbox.studies() == ["a" * 16]
    assert inbox.too_large() == []
    assert not list(layout.work.iterdir())
    assert store.retry_parked() == 1


def test_results_that_wait_to_be_sent_stay_and_those_that_were_replaced_are_gone(tmp_path: Path) -> None:
    """A clock that is a year ahead; and a crash between publishing and its row, after which the same is read again."""
    layout, now, key = Layout(tmp_path), time.time(), "a" * 16
    layout.prepare()
    inbox, store = Inbox(layout.inbox), Store(Database(tmp_path / NAME), lambda: now)
    for _ in range(2):
        with layout.working() as work:
            (work / "out").mkdir()
            (work / "out" / "x.dcm").touch()
            layout.publish(work / "out", key, 1)
    assert not list(layout.work.iterdir())
    assert layout.read() == {key: 1}
    store.received(key)
    store.ripen(0)
    claim = store.claim()
    assert claim is not None
    store.finish(claim, State.DONE, outputs={"x": "1"}, destinations=["pacs"])
    now += 365 * 86_400
    assert expire(store, inbox, layout, Retention(1, 2), Log(io.StringIO())) == 0
    assert layout.read() == {key: 1}
    assert Deliveries(store.database, Delivery(), lambda: now).park_others([]) == 1
    assert expire(store, inbox, layout, Retention(1, 2), Log(io.StringIO())) == 1
    assert layout.read() == {}


def test_two_services_do_not_share_a_folder(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with layout.held(), pytest.raises(InUseError, match="another holds"), Layout(tmp_path).held():
        pass
    with layout.held():
        assert not list(tmp_path.glob("*.sqlite3")), "and it is free again"


def test_the_state_folder_is_its_owners_only(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    layout.prepare()
    assert {path.stat().st_mode & 0o077 for path in (layout.state, layout.inbox, layout.results)} == {0}
