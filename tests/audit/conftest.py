"""A small audit that several files look at."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.tracking.predictions import predictions_frame

CLASSES = ("NOR", "HCM", "DCM")
VENDORS = {"Siemens": 24, "Philips": 18, "GE": 15, "UIH": 4, "Canon": 12}


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    """Three models on 73 patients of five vendors: UIH has four, Canon's are all healthy.

    The students see less of the disease on GE.
    """
    rng = np.random.default_rng(7)
    vendors = [vendor for vendor, n in VENDORS.items() for _ in range(n)]
    codes = np.array([0 if vendor == "Canon" else i % 3 for i, vendor in enumerate(vendors)])
    records = [
        {
            "case_id": f"{vendor}-{i}",
            "patient_id": f"patient-{i}",
            "label": CLASSES[code],
            "vendor": vendor,
            "scanner": f"{vendor} 3 T",
            "field_strength_t": 3.0 if i % 2 else 1.5,
        }
        for i, (vendor, code) in enumerate(zip(vendors, codes, strict=True))
    ]
    on_ge = np.array(vendors) == "GE"
    models = []
    for model, gain in (("teacher", 2.5), ("student-kd", 0.3), ("student-groupdistil", 1.2)):
        logits = rng.normal(size=(len(codes), 3))
        logits[np.arange(len(codes)), codes] += np.where(on_ge, gain, 2.5)
        softened = np.exp(logits)
        scores = softened / softened.sum(axis=1, keepdims=True)
        models.append(predictions_frame(records, scores, CLASSES, split="test", model=model))
    return pd.concat(models, ignore_index=True)
