"""What can be seen of the service from outside: log, metrics, drift, health; and that none of it tells of a patient."""

from __future__ import annotations

import io
import json
import math
import socket
import sqlite3
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.tiny_studies import IDENTITY
from pipeline.deployment.service.database import Database
from pipeline.deployment.service.drift import (
    Stability,
    population_stability,
    stabilities,
    tallies_of,
)
from pipeline.deployment.service.http import Pages
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.metrics import Gauges, Metrics
from pipeline.deployment.service.reading import Summary
from pipeline.deployment.service.settings import Drift
from tests.deployment.service.support import events, running, settings

CANARY = "Doe^Jane"


def test_a_line_is_json_with_known_fields_only() -> None:
    said = io.StringIO()
    log = Log(said, ["pacs"])
    log("read", study_key="0123456789abcdef", verdict="audited", vendor="GE", seconds=1.23456, count=2)
    log("delivered", destination="pacs")
    first, second = (json.loads(line) for line in said.getvalue().splitlines())
    assert list(first) == ["time", "event", "study_key", "verdict", "vendor", "seconds", "count"]
    assert first["seconds"] == 1.235
    assert second["destination"] == "pacs"
    with pytest.raises(TypeError, match="patient"):
        log("read", patient="x")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "field",
    ["study_key", "code", "verdict", "vendor", "reference", "destination", "error", "place", "version", "digest"],
)
def test_a_value_of_another_form_is_hidden(field: str) -> None:
    said = io.StringIO()
    Log(said, ["pacs"])("read", **{field: CANARY})  # type: ignore[arg-type]
    assert CANARY not in said.getvalue()
    assert json.loads(said.getvalue())[field] == "hidden"


def test_an_error_tells_class_and_place_and_not_its_text() -> None:
    said = io.StringIO()
    log = Log(said)
    try:
        population_stability([1], [1.0, 0.0], 5)
    except ValueError as error:
        error.args = (CANARY,)
        log.failure("worker_failed", error, study_key="0123456789abcdef")
    found = json.loads(said.getvalue())
    assert found["error"] == "ValueError"
    assert found["place"].startswith("pipeline.deployment.service.drift:")
    assert CANARY not in said.getvalue()


def test_stability_is_the_sum_of_its_bins() -> None:
    """Against numpy: 90 and 10 of 100 where halves were expected, half a study added to each."""
    p, q = np.array([90.5, 10.5]) / 101, np.array([500.5, 500.5]) / 1001
    found = population_stability([90, 10], [0.5, 0.5], 1000)
    assert found == pytest.approx(float(np.sum((p - q) * np.log(p / q))))
    assert population_stability([50, 50], [0.5, 0.5], 1000) == pytest.approx(0, abs=1e-12)
    assert math.isfinite(population_stability([0, 9], [1.0, 0.0], 10)), "an empty bin has a logarithm"


def test_stability_without_a_change_is_about_what_its_docstring_says() -> None:
    """(B - 1)(1/n + 1/m) on average, over 2000 draws of both samples."""
    draw, n, m, shares = np.random.default_rng(0), 100, 400, np.array([0.2, 0.3, 0.5])
    values = [
        population_stability(draw.multinomial(n, shares).tolist(), (draw.multinomial(m, shares) / m).tolist(), m)
        for _ in range(2000)
    ]
    assert np.mean(values) == pytest.approx(2 * (1 / n + 1 / m), rel=0.1)


def test_a_reading_is_counted_once_per_measure_and_a_refusal_not() -> None:
    assert tallies_of(Summary("read", vendor="GE", probabilities={"A": 0.31, "B": 0.69})) == [
        ("GE", "predicted_class", "B"),
        ("GE", "max_probability", "6"),
    ]
    assert tallies_of(Summary("read", vendor="GE", probabilities={"A": 1.0, "B": 0.0}))[1][2] == "9"
    assert tallies_of(Summary("refused", vendor="GE")) == []


def test_vendors_are_compared_with_the_audit_each_and_all_together(tmp_path: Path) -> None:
    """60 of GE as expected, 60 of Canon, all of class A; 3 of UIH are too few, and last year's do not count.

    Nor do those that another package has read.
    """
    database = Database(tmp_path / "db")
    rows = [
        ("2026-05-20", "GE", "predicted_class", "A", 30),
        ("2026-05-20", "GE", "predicted_class", "B", 30),
        ("2026-05-21", "Canon", "predicted_class", "A", 60),
        ("2026-05-21", "UIH", "predicted_class", "A", 3),
        ("2025-05-21", "UIH", "predicted_class", "A", 500),
        ("2026-05-20", "GE", "max_probability", "9", 60),
    ]
    rows = [(day, package, *row) for package in ("p", "former") for day, *row in rows]
    with database.transaction() as connection:
        connection.executemany("INSERT INTO tallies VALUES (?, ?, ?, ?, ?, ?)", rows)
    reference = {
        "n_cases": 100,
        "classes": {"A": 0.5, "B": 0.5},
        "features": {"max_probability": [0.0] * 5 + [0.1] * 4 + [0.6]},
        "groups": {"vendor": {"GE": 0.5, "Canon": 0.5}},
    }
    now = 1_779_400_000.0  # 2026-05-21
    found = {(s.vendor, s.measure): s for s in stabilities(database, "p", reference, Drift(), now)}
    assert found["GE", "predicted_class"].index == pytest.approx(0, abs=1e-9)
    assert found["Canon", "predicted_class"].index > 0.25  # type: ignore[operator]
    assert found["Canon", "predicted_class"].reference == "all"
    assert found["UIH", "predicted_class"] == Stability("UIH", "predicted_class", 3, None)
    assert found["all", "predicted_class"].n == 123
    assert 0.1 < found["GE", "max_probability"].index < 1.5  # type: ignore[operator]
    assert found["all", "vendor"].n == 123
    assert found["all", "vendor"].index == pytest.approx(0.08, abs=0.08)
    assert all(s.index is None for s in stabilities(database, "p", None, Drift(), now)), "a package without a reference"


@pytest.mark.parametrize(("audited", "whose"), [(50, "Canon"), (49, "all")])
def test_a_vendor_with_enough_audited_studies_is_compared_with_its_own(
    audited: int, whose: str, tmp_path: Path
) -> None:
    """Canon's patients were of other classes even in the audit, and are so still."""
    database = Database(tmp_path / "db")
    with database.transaction() as connection:
        rows = [("2026-05-20", "p", "Canon", "predicted_class", name, n) for name, n in (("A", 54), ("B", 6))]
        connection.executemany("INSERT INTO tallies VALUES (?, ?, ?, ?, ?, ?)", rows)
    own = {"n_cases": audited, "classes": {"A": 0.9, "B": 0.1}, "features": {"max_probability": [0.1] * 10}}
    reference = {"n_cases": 500, "classes": {"A": 0.5, "B": 0.5}, "vendors": {"Canon": own}}
    stable = stabilities(database, "p", reference, Drift(), 1_779_400_000.0)
    found = {s.vendor: s for s in stable if s.measure == "predicted_class"}
    assert found["Canon"].reference == whose
    assert (found["Canon"].index < 0.01) is (whose == "Canon")  # type: ignore[operator]
    assert found["all"].reference == "all"
    assert found["all"].index > 0.5  # type: ignore[operator]


def test_bins_that_cannot_be_filled_raise_no_alarm(tmp_path: Path) -> None:
    """Of two classes the larger share is a half or more: 50 readings, distributed as 1000 audited ones were."""
    database = Database(tmp_path / "db")
    with database.transaction() as connection:
        rows = [("2026-05-20", "p", "GE", "max_probability", str(tenth), 10) for tenth in range(5, 10)]
        connection.executemany("INSERT INTO tallies VALUES (?, ?, ?, ?, ?, ?)", rows)
    reference = {"n_cases": 1000, "features": {"max_probability": [0.0] * 5 + [0.2] * 5}}
    found = stabilities(database, "p", reference, Drift(), 1_779_400_000.0)
    assert [one.index for one in found] == pytest.approx([0, 0], abs=1e-9)


def test_the_daily_line_names_the_vendor_and_whose_audited_studies_it_is_compared_with(tmp_path: Path) -> None:
    """As the metric does: 60 readings of each; of GE 60 studies were audited, of Canon none."""
    own = {"n_cases": 60, "classes": {"A": 0.5, "B": 0.5}}
    reference = {"n_cases": 100, "classes": {"A": 0.5, "B": 0.5}, "vendors": {"GE": own}}
    today = time.strftime("%Y-%m-%d", time.gmtime())
    rows = [(today, IDENTITY.digest, vendor, "predicted_class", "A", 60) for vendor in ("GE", "Canon")]
    with running(settings(tmp_path)) as (service, said):
        service._student = replace(service._student, reference=reference)
        with service._database.transaction() as connection:
            connection.executemany("INSERT INTO tallies VALUES (?, ?, ?, ?, ?, ?)", rows)
        service.look_after()
        service._next_round = 0
        service.look_after()
        page = service._metrics.text().decode()
    told = [event for event in events(said) if event["event"] == "drift_predicted_class"]
    assert {(line["vendor"], line["reference"]) for line in told} == {("GE", "GE"), ("Canon", "all"), ("all", "all")}
    assert len(told) == 3, "once a day"
    for line in told:
        labels = f'measure="predicted_class",reference="{line["reference"]}",vendor="{line["vendor"]}"'
        assert f"evenbeat_drift_psi{{{labels}}}" in page


def metrics() -> Metrics:
    found = Metrics()
    found.finished(Summary("read", "audited", "Siemens"), 2.4)
    found.finished(Summary("refused", "unseen", "unknown", "NO_CINE"), 0.2)
    found.parked("READER_CRASHED")
    found.instance("new", 1000)
    found.rejected("CALLING_AE_TITLE")
    found.sent("pacs", "failed")
    found.registry.register(
        Gauges(
            studies=lambda: {"waiting": 3},
            deliveries=lambda: {("pacs", "waiting"): 2},
            figures={"evenbeat_disk_free_bytes": ("Space", lambda: 7.0)},
            drift=lambda: [
                Stability("GE", "predicted_class", 60, 0.3, "all"),
                Stability("UIH", "predicted_class", 3, None),
            ],
            package=("name", "1", "d" * 64),
        )
    )
    return found


def test_metrics_are_what_prometheus_reads() -> None:
    """Its own parser is the oracle."""
    families = {family.name: family for family in text_string_to_metric_families(metrics().text().decode())}
    studies = {tuple(s.labels.values()): s.value for s in families["evenbeat_studies"].samples}
    assert studies == {
        ("", "read", "Siemens", "audited"): 1,
        ("NO_CINE", "refused", "unknown", "unseen"): 1,
        ("READER_CRASHED", "parked", "", ""): 1,
    }
    assert families["evenbeat_studies_now"].samples[0].value == 3
    compared = {"vendor": "GE", "measure": "predicted_class", "reference": "all"}
    assert [s.labels for s in families["evenbeat_drift_psi"].samples] == [compared]
    within = {s.labels["le"]: s.value for s in families["evenbeat_reading_seconds"].samples if "le" in s.labels}
    assert within["3.0"] == 1


def test_counters_are_there_though_a_figure_cannot_be_had() -> None:
    def locked() -> dict[str, int]:
        raise sqlite3.OperationalError("database is locked")

    found = Metrics()
    found.parked("READER_ERROR")
    found.registry.register(
        Gauges(studies=locked, deliveries=dict, figures={"evenbeat_disk_free_bytes": ("Space", lambda: 7.0)},
               drift=lambda: list(locked()), package=("name", "1", "d" * 64))  # type: ignore[arg-type]
    )  # fmt: skip
    text = found.text().decode()
    assert 'evenbeat_studies_total{code="READER_ERROR"' in text
    assert "evenbeat_disk_free_bytes 7.0" in text
    assert "evenbeat_studies_now" not in text


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_pages_say_what_holds_and_what_does_not() -> None:
    checks = {"database": True, "disk": True}

    def broken() -> bytes:
        raise RuntimeError(CANARY)

    pages = Pages("127.0.0.1", 0, alive=lambda: {"worker": True}, ready=lambda: checks, metrics=metrics().text)
    other = Pages("127.0.0.1", 0, alive=dict, ready=dict, metrics=broken)
    for one in (pages, other):
        one.thread.start()
    try:
        assert get(pages.port, "/healthz") == (200, '{"worker": true}\n')
        assert get(pages.port, "/readyz?x=1")[0] == 200
        checks["disk"] = False
        assert get(pages.port, "/readyz") == (503, '{"database": true, "disk": false}\n')
        assert "evenbeat_studies_total" in get(pages.port, "/metrics")[1]
        assert get(pages.port, f"/{CANARY}") == (404, "not found\n")
        assert get(other.port, "/metrics") == (503, "unavailable\n")
        with socket.create_connection(("127.0.0.1", pages.port), 5) as silent:  # keeps nobody waiting
            assert get(pages.port, "/healthz")[0] == 200
            silent.sendall(b"POST /healthz HTTP/1.0\r\n\r\n")
            assert b"501" in silent.recv(100)
    finally:
        for one in (pages, other):
            one.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", pages.port), 1)
