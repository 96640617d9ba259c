"""A finished model measured: every number worked out again from the network's answers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, roc_auc_score

from pipeline.benchmark.analysis import METRICS, Runs, draws
from pipeline.benchmark.answers import evenly, mismatched
from pipeline.benchmark.evaluate import check_evaluate
from pipeline.benchmark.measure import Measured, measure
from pipeline.benchmark.records import Cell, HeldOut, patient_codes
from pipeline.benchmark.scores import group_probe, held_out_scores
from pipeline.cohort.case import Case, Datalist, read_datalist, write_datalist
from pipeline.training.attacks import accuracy_under_attack
from pipeline.training.checkpoint import load_network
from pipeline.training.networks import Classifier, parameter_count
from transforms.files import read_prepared, write_prepared
from transforms.recipe import StudentInput

RECIPE = StudentInput(rows=16, cols=16, slices=2)
CLASSES = ("NOR", "HCM", "DCM")
VENDORS = ("Canon", "GE", "Siemens")
EVALUATE = {
    "minority": ["GE"],
    "attack": {"fgsm": [0, 0.5], "pgd": [0.5], "cases": 27},
    "latency": True,
}


def _case(folder: Path, section: str, vendor: str, label: str, number: int) -> Case:
    name = f"{section}-{vendor}-{label}-{number}"
    noise = np.random.default_rng([*name.encode()]).normal(size=RECIPE.shape)
    shift = 0.8 * (CLASSES.index(label) - 1) + 0.5 * VENDORS.index(vendor)
    write_prepared(folder / f"{name}.npz", (noise + shift).astype(np.float32), {"recipe_digest": RECIPE.digest})
    case = Case(name, f"p-{name}", label, f"site-{vendor}", vendor, f"{vendor} 1.5 T", 1.5)
    return replace(case, image=folder / f"{name}.npz", ed=0, es=1)


@pytest.fixture(scope="module")
def datalist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training with few GE, and one GE patient with DCM; six of each vendor and pathology to test."""
    folder = tmp_path_factory.mktemp("cohort")
    counts = {"Canon": (6, 6, 6), "GE": (3, 2, 1), "Siemens": (2, 9, 9)}
    training = [
        (v, c, n) for v, sizes in counts.items() for c, size in zip(CLASSES, sizes, strict=True) for n in range(size)
    ]
    each = [(v, c, n) for v in VENDORS for c in CLASSES for n in range(6)]
    drawn = {"training": training, "validation": [row for row in each if row[2] < 4], "test": each}
    sections = {name: tuple(_case(folder, name, *row) for row in rows) for name, rows in drawn.items()}
    listed = Datalist(
        CLASSES, "made", ("vendor",), sections, "test", recipe=RECIPE.to_dict(), recipe_digest=RECIPE.digest
    )
    write_datalist(listed, folder / "datalist.json")
    return folder / "datalist.json"


@pytest.fixture(scope="module")
def model_path(datalist: Path) -> Path:
    """An untrained network whose last layer is scaled up, so that decisions and confidences vary."""
    torch.manual_seed(3)
    network = Classifier(classes=3, channels=4, widths=(4, 4, 8, 8))
    with torch.no_grad():
        network.head.weight *= 6
    state = {"model": network.state_dict(), "network": network.settings, "classes": list(CLASSES)}
    torch.save({**state, "recipe_digest": RECIPE.digest}, datalist.parent / "model.pt")
    return datalist.parent / "model.pt"


@pytest.fixture(scope="module")
def measured(model_path: Path, datalist: Path) -> Measured:
    return measure(model_path, datalist, evaluate=EVALUATE)


def _again(model_path: Path, section: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, vendors and probabilities of a section, by reading each file, one at a time."""
    network = load_network(model_path)
    rows = []
    for path in sorted(model_path.parent.glob(f"{section}-*.npz")):
        _, vendor, label, _ = path.stem.split("-")
        with torch.no_grad():
            logits = network(torch.as_tensor(read_prepared(path)[0])[None])[0]
        rows.append((CLASSES.index(label), vendor, torch.softmax(logits.double(), dim=0).numpy()))
    labels, vendors, probabilities = zip(*rows, strict=True)
    return np.array(labels), np.array(vendors), np.stack(probabilities)


def test_the_columns_of_the_test_set_are_those_of_scikit_learn(measured: Measured, model_path: Path) -> None:
    labels, vendors, probabilities = _again(model_path, "test")
    told = probabilities.argmax(axis=1)
    by_vendor = {v: accuracy_score(labels[vendors == v], told[vendors == v]) for v in VENDORS}
    cells = [
        accuracy_score(labels[c], told[c])
        for v in VENDORS
        for k in range(3)
        if (c := (vendors == v) & (labels == k)).any()
    ]
    aucs = [roc_auc_score(labels[vendors == v], probabilities[vendors == v], multi_class="ovr") for v in VENDORS]
    expected = {
        "accuracy": accuracy_score(labels, told),
        "worst_group_accuracy": min(by_vendor.values()),
        "worst_cell_accuracy": min(cells),
        "worst_group_auc": min(aucs),
        "gap": max(by_vendor.values()) - min(by_vendor.values()),
    }
    assert {name: measured.row[name] for name in expected} == pytest.approx(expected)
    assert by_vendor[measured.row["worst_group"]] == min(by_vendor.values())
    assert measured.extra["group_accuracy"] == pytest.approx(by_vendor)
    assert len(set(by_vendor.values())) > 1
    assert min(cells) < min(by_vendor.values()) < expected["accuracy"] < 1


@pytest.mark.parametrize("metric", METRICS)
def test_the_page_computes_the_same_values_from_the_predictions(measured: Measured, metric: str) -> None:
    """Its intervals are around a value of its own making: draw 0 is the sample as it is."""
    runs = Runs((0,), (measured.held_out,), (measured.probabilities,))
    assert draws(runs, metric)[0] == pytest.approx(measured.row[metric])


def test_training_and_validation_are_measured_without_the_test_set(measured: Measured, model_path: Path) -> None:
    labels, vendors, probabilities = _again(model_path, "training")
    right = probabilities.argmax(axis=1) == labels
    assert measured.row["train_accuracy"] == pytest.approx(right.mean())
    assert measured.row["train_minority_accuracy"] == pytest.approx(right[vendors == "GE"].mean())
    labels, vendors, probabilities = _again(model_path, "validation")
    right = probabilities.argmax(axis=1) == labels
    assert measured.row["validation_accuracy"] == pytest.approx(right.mean())
    assert measured.row["validation_worst_accuracy"] == pytest.approx(min(right[vendors == v].mean() for v in VENDORS))


def test_a_row_fits_a_cell_of_the_results(measured: Measured, model_path: Path) -> None:
    cell = Cell("p", "phantom", {}, 0, None, "kd", "student", "d", n_training=44, extra=measured.extra, **measured.row)
    assert cell.parameters == parameter_count(load_network(model_path))
    assert measured.extra["latency_ms"] > 0


def test_development_patients_are_measured_where_they_lie_beside_the_datalist(
    measured: Measured, datalist: Path, model_path: Path
) -> None:
    """Here they are the validation patients, under their other name."""
    assert "development" not in measured.extra
    listed = read_datalist(datalist)
    beside = replace(listed, sections={"test": listed.sections["validation"]})
    write_datalist(beside, datalist.with_name("development.json"))
    found = measure(model_path, datalist, evaluate={"probe": False}).extra["development"]
    datalist.with_name("development.json").unlink()
    labels, vendors, probabilities = _again(model_path, "validation")
    right = probabilities.argmax(axis=1) == labels
    assert found == {v: pytest.approx(right[vendors == v].mean()) for v in VENDORS}


def test_the_held_out_cases_stand_in_the_order_of_the_datalist(measured: Measured, model_path: Path) -> None:
    """The files' order by name is another one: classes there are DCM, HCM, NOR."""
    names = [f"p-test-{v}-{c}-{n}" for v in VENDORS for c in CLASSES for n in range(6)]
    assert measured.held_out.patients.tolist() == patient_codes(names).tolist()
    assert measured.held_out.labels.tolist() == [CLASSES.index(name.split("-")[3]) for name in names]
    order = sorted(range(54), key=names.__getitem__)
    assert measured.probabilities[order] == pytest.approx(_again(model_path, "test")[2], abs=1e-6)


def test_attacks_are_on_every_other_of_the_cases_where_half_are_asked_for(measured: Measured, model_path: Path) -> None:
    """27 of 54 cases, three of each vendor and pathology; those that decide are named by size, and 0 is no attack."""
    names = [f"test-{v}-{c}-{n}" for v in VENDORS for c in CLASSES for n in range(6)][::2]
    images = torch.stack([torch.as_tensor(read_prepared(model_path.parent / f"{name}.npz")[0]) for name in names])
    labels = torch.tensor([CLASSES.index(name.split("-")[2]) for name in names])
    network = load_network(model_path)
    for attack, sizes in (("fgsm", [0, 0.5]), ("pgd", [0.5])):
        curve = accuracy_under_attack(network, images, labels, attack=attack, eps_values=sizes)  # type: ignore[arg-type]
        assert measured.extra[attack] == {f"{eps:g}": accuracy for eps, accuracy in curve.items()}
    right = (measured.probabilities.argmax(axis=1) == measured.held_out.labels)[::2]
    assert measured.extra["fgsm"]["0"] == pytest.approx(right.mean())
    assert measured.extra["pgd"]["0.5"] < measured.extra["fgsm"]["0"]


def test_what_is_not_asked_for_is_not_there(model_path: Path, datalist: Path, measured: Measured) -> None:
    """Without a minority by name it is the cells that are rarer than half of what independence gives.

    44 training cases: GE has 6 and Siemens 20; of DCM there are 16, of NOR 11. GE x DCM: 1 < 6 * 16 / 44 / 2 = 1.09.
    Siemens x NOR: 2 < 20 * 11 / 44 / 2 = 2.5.
    """
    plain = measure(model_path, datalist, evaluate={"probe": False})
    assert set(plain.extra) == {"group_accuracy"}
    assert math.isnan(plain.row["vendor_probe"])
    assert not math.isnan(measured.row["vendor_probe"])
    labels, vendors, probabilities = _again(model_path, "training")
    rare = ((vendors == "GE") & (labels == 2)) | ((vendors == "Siemens") & (labels == 0))
    right = probabilities.argmax(axis=1) == labels
    assert rare.sum() == 3
    assert plain.row["train_minority_accuracy"] == pytest.approx(right[rare].mean())


def test_sites_are_the_groups_where_no_vendor_is_known(model_path: Path, datalist: Path) -> None:
    from pipeline.cohort.case import read_datalist

    listed = read_datalist(datalist)
    sections = {
        name: tuple(replace(case, vendor="unknown") for case in cases) for name, cases in listed.sections.items()
    }
    write_datalist(replace(listed, sections=sections), datalist.parent / "sites.json")
    measured = measure(model_path, datalist.parent / "sites.json", evaluate={"minority": ["site-GE"], "probe": False})
    assert measured.held_out.groups == ("site-Canon", "site-GE", "site-Siemens")
    with pytest.raises(ValueError, match="no group of the minority is called 'GE'; known: 'site-Canon', 'site-GE'"):
        measure(model_path, datalist.parent / "sites.json", evaluate={"minority": ["GE"]})


def test_results_are_by_vendor_and_label_where_training_groups_by_both(
    measured: Measured, model_path: Path, datalist: Path
) -> None:
    """The minority and the probe keep to vendors; the lowest group is then the lowest cell."""
    from pipeline.cohort.case import read_datalist

    write_datalist(replace(read_datalist(datalist), group_by=("vendor", "label")), datalist.parent / "cells.json")
    by_cell = measure(model_path, datalist.parent / "cells.json", evaluate={"minority": ["GE"]})
    assert by_cell.held_out.groups[:4] == ("Canon x NOR", "Canon x HCM", "Canon x DCM", "GE x NOR")
    names = [by_cell.held_out.groups[index].split(" x ") for index in by_cell.held_out.group_index]
    assert [CLASSES.index(label) for _, label in names] == by_cell.held_out.labels.tolist()
    assert [vendor for vendor, _ in names] == [measured.held_out.groups[i] for i in measured.held_out.group_index]
    assert by_cell.row["worst_group_accuracy"] == by_cell.row["worst_cell_accuracy"]
    assert by_cell.row["worst_cell_accuracy"] == measured.row["worst_cell_accuracy"]
    kept = ("accuracy", "train_minority_accuracy", "vendor_probe")
    assert [by_cell.row[name] for name in kept] == [measured.row[name] for name in kept]
    assert np.isnan(by_cell.row["worst_group_auc"])  # no cell has two classes


def test_a_group_that_lacks_a_class_has_no_auc_and_without_any_the_worst_is_nan() -> None:
    """GE ranks its two cases wrongly, AUC 0; Canon has one class only."""
    probabilities = [[0.2, 0.8], [0.7, 0.3], [0.9, 0.1], [0.4, 0.6]]
    both = HeldOut(("NOR", "HCM"), ("Canon", "GE"), [0, 1, 0, 0], [1, 1, 0, 0], range(4))  # type: ignore[arg-type]
    scores = held_out_scores(both, probabilities)
    assert (scores["worst_group_auc"], scores["worst_group"], scores["worst_group_accuracy"]) == (0.0, "GE", 0.0)
    alone = HeldOut(("NOR", "HCM"), ("Canon",), [0, 0], [0, 0], range(2))  # type: ignore[arg-type]
    assert math.isnan(held_out_scores(alone, probabilities[2:])["worst_group_auc"])


def test_a_probe_finds_a_group_that_is_in_the_features_and_none_that_is_not() -> None:
    """Of 400 cases in 4 groups: balanced accuracy of guesses has mean 1/4, SD 0.02."""
    rng = np.random.default_rng(0)
    groups = np.arange(400) % 4
    noise = rng.normal(size=(400, 5))
    told = noise.copy()
    told[:, 2] += 20 * groups
    assert group_probe(told, groups, np.arange(400)) > 0.95
    assert group_probe(noise, groups, np.arange(400)) == pytest.approx(0.25, abs=0.08)


def test_a_probe_never_tests_on_a_patient_it_was_fitted_on() -> None:
    """Each patient's ten cases have a place of their own in 40 dimensions, and the groups none: known again, 1."""
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(40), 10)
    features = 10 * np.eye(40)[patients] + rng.normal(size=(400, 40))
    groups = rng.permutation(np.arange(40) % 2)[patients]
    assert group_probe(features, groups, patients) < 0.75
    assert group_probe(features, groups, np.arange(400)) > 0.85


def test_a_probe_of_one_group_or_of_four_patients_is_nan() -> None:
    features, patients = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20)
    assert math.isnan(group_probe(features, np.zeros(20), patients))
    assert math.isnan(group_probe(features, np.arange(20) < 4, patients))
    assert not math.isnan(group_probe(features, np.arange(20) < 5, patients))


def test_cases_for_an_attack_come_from_every_group_and_label() -> None:
    cases = HeldOut(("a", "b"), ("x", "y"), np.arange(40) % 2, np.arange(40) // 20, np.arange(40))
    chosen = evenly(cases, 8)
    assert sorted(zip(cases.labels[chosen], cases.group_index[chosen], strict=True)) == sorted(
        [(0, 0), (0, 1), (1, 0), (1, 1)] * 2
    )
    assert sorted(evenly(cases, 99)) == list(range(40))


def test_balanced_cells_have_no_mismatched_case() -> None:
    cases = HeldOut(("a", "b"), ("x", "y"), np.arange(40) % 2, np.arange(40) // 20, np.arange(40))
    assert not mismatched(cases).any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"probes": True}, "key 'probes' is not known; did you mean 'probe'"),
        ({"attack": {"fgms": [0.1]}}, "key 'fgms' is not known; did you mean 'fgsm'"),
        ({"attack": {"fgsm": 0.1}}, r"fgsm must be a list of sizes, 0 or more; got 0.1; write e.g. \[0.05\]"),
        ({"attack": {"pgd": [-0.1]}}, r"pgd must be a list of sizes, 0 or more; got \[-0.1\]"),
        ({"attack": {"cases": 0}}, "cases must be a number above 0; got 0"),
        ({"minority": "GE"}, "minority must be 'mismatched' or a list of groups; got 'GE'"),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_evaluate(wrong)
