"""``result.json`` and its words."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from pipeline.deployment.outcome import AuditedGroup, EnvelopeVerdict, Outcome, Verdict
from pipeline.deployment.result_json import SCHEMA, Failure, Output, failure_document, result_document, to_json
from pipeline.deployment.wording import (
    NO_AUDIT,
    NO_COLUMN,
    NO_SCANNER,
    audit_sentences,
    group_sentence,
    shown_model,
    verdict_sentence,
)
from pipeline.dicom.refusal import Code, Refusal
from tests.deployment.readings import PACKAGE, READ, REFUSED
from transforms.scanner import Scanner

FAILURE = failure_document(
    Failure("MemoryError", "pipeline.deployment.job:63"), study_key=None, package=PACKAGE, software="0.5.0"
)


def _schema() -> dict[str, Any]:
    return json.loads(SCHEMA.read_text("utf-8"))


def _document(outcome: Outcome) -> dict[str, Any]:
    return json.loads(to_json(result_document(outcome, [Output("summary.png", "summary-picture", b"x")], software="1")))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(_schema())


@pytest.mark.parametrize(
    "document",
    [_document(READ), _document(REFUSED), _document(replace(REFUSED, scanner=None, envelope=None)), FAILURE],
    ids=["read", "refused", "refused without a scanner", "failed"],
)
def test_every_outcome_holds_to_the_schema(document: dict[str, Any]) -> None:
    jsonschema.validate(json.loads(to_json(document)), _schema())


@pytest.mark.parametrize(
    "change",
    [
        {"status": "refused"},
        {"study_key": "1.2.840.1"},
        {"prediction": None},
        {"patient": "x"},
        {"outputs": [{"name": "Doe^John.dcm", "kind": "structured-report", "bytes": 1, "sha256": "0" * 64}]},
        {"scanner": {"vendor": "SIEMENS", "field_strength_t": 1.5, "model": None}},
    ],
)
def test_the_schema_refuses_what_contradicts_itself_or_could_name_a_patient(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(_document(READ) | change, _schema())


@pytest.mark.parametrize("code", list(Code))
def test_every_code_of_a_refusal_holds_to_the_schema(code: Code) -> None:
    jsonschema.validate(_document(replace(REFUSED, refusal=Refusal(code))), _schema())


def test_a_reading_says_what_was_read() -> None:
    document = _document(READ)
    assert document["status"] == "read"
    assert document["verdict"] == "audited-too-few"
    assert document["prediction"] == {"class": "HCM", "probabilities": {"NOR": 0.06, "HCM": 0.87, "DCM": 0.07}}
    assert list(document["prediction"]["probabilities"]) == ["NOR", "HCM", "DCM"]
    assert document["cine"]["ed"] == 1
    assert document["scanner"] == {"vendor": "Siemens", "field_strength_t": 1.5, "model": "Avanto"}
    assert document["left_out"][0]["code"] == "LONG_AXIS"
    assert document["warnings"] == ["REPEATED_SLICE: a slice was acquired twice; the later one is read"]


def test_a_refusal_says_why_and_what_can_be_done() -> None:
    refusal = _document(REFUSED)["refusal"]
    assert refusal["code"] == "MISSING_PHASE"
    assert "19 phases" in refusal["sentence"]
    assert refusal["remedy"] == Code.MISSING_PHASE.remedy


def test_the_notification_names_neither_finding_nor_study() -> None:
    for outcome in (READ, REFUSED):
        text = _document(outcome)["__mercure_notification"]["text"]
        assert text.count(".") - text.count("result.json") == 1
        assert not re.search(rf"NOR|HCM|DCM|{outcome.study_key}|\d", text)
    assert "MISSING_PHASE" in _document(REFUSED)["__mercure_notification"]["text"]


def test_a_model_is_shown_only_where_the_audit_names_the_scanner() -> None:
    avanto = Scanner("Siemens", "Avanto", 1.5)
    assert shown_model(avanto, READ.envelope) == "Avanto"
    assert shown_model(Scanner("Siemens", "Secret", 1.5), READ.envelope) is None
    assert shown_model(avanto, None) is None
    crossed = AuditedGroup("vendor x scanner", "Siemens x Siemens Avanto 1.5 T", "accuracy", 4)
    assert shown_model(avanto, EnvelopeVerdict(Verdict.TOO_FEW, (crossed,))) == "Avanto"
    empty = replace(crossed, n_patients=0)
    assert shown_model(avanto, EnvelopeVerdict(Verdict.UNSEEN, (empty,))) is None


def test_a_group_without_patients_shows_no_name_that_a_header_could_have_given() -> None:
    unseen = AuditedGroup("vendor x scanner", "Canon x Doe's scanner", "accuracy", 0)
    envelope = EnvelopeVerdict(Verdict.UNSEEN, (unseen, AuditedGroup("field_strength_t", "0.55 T", "accuracy", 0)))
    groups = _document(replace(READ, envelope=envelope))["envelope"]["groups"]
    assert [group["group"] for group in groups] == ["Canon x another", "0.55 T"]
    assert audit_sentences(envelope)[0] == "vendor Canon, scanner another: no patient in the audit"


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        (AuditedGroup("vendor", "GE", "AUROC", 1, 1.0), "vendor GE: AUROC 1.00, no interval, 1 patient"),
        (
            AuditedGroup("field_strength_t", "3 T", "accuracy", 0),
            "field 3 T: no patient in the audit",
        ),
        (
            AuditedGroup("vendor x field_strength_t", "GE x 3 T", "accuracy", 20, 0.5, 0.25, 0.75, level=0.9),
            "vendor GE, field 3 T: accuracy 0.50, 90 % interval 0.25 to 0.75, 20 patients",
        ),
    ],
)
def test_a_group_is_told_with_its_number_and_interval(group: AuditedGroup, sentence: str) -> None:
    assert group_sentence(group) == sentence


def test_the_least_known_group_comes_first() -> None:
    assert READ.envelope is not None
    assert "7 patients" in audit_sentences(READ.envelope)[0]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.AUDITED, "The audit knows scanners"),
        (Verdict.TOO_FEW, "The audit has too few patients"),
        (Verdict.UNSEEN, "The audit has not seen"),
    ],
)
def test_each_verdict_is_said_as_what_it_is(verdict: Verdict, words: str) -> None:
    assert READ.envelope is not None
    assert verdict_sentence(replace(READ.envelope, verdict=verdict)).startswith(words)


def test_verdicts_read_differently() -> None:
    groups = REFUSED.envelope.groups if REFUSED.envelope else ()
    sentences = [verdict_sentence(EnvelopeVerdict(verdict, groups)) for verdict in Verdict]
    bare = [EnvelopeVerdict(Verdict.UNSEEN, (), audited=False), EnvelopeVerdict(Verdict.UNSEEN, ())]
    sentences += map(verdict_sentence, [None, *bare])
    assert len(set(sentences)) == 6
    assert sentences[3:] == [NO_SCANNER, NO_AUDIT, NO_COLUMN]


def test_numbers_that_are_none_are_refused() -> None:
    assert READ.reading is not None
    reading = replace(READ.reading, probabilities={"NOR": float("nan"), "HCM": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        _document(replace(READ, reading=reading))
