"""A certificate that no rows were judged for, with every field."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from llmclf import LLMClassifier
from llmclf.backends import open_backend
from llmclf.certificates import Certificate, ReferenceRows
from llmclf.certificates.content import Content
from llmclf.saved_folder import array_bytes, classifier_sha256


def reference_rows(n: int = 40) -> ReferenceRows:
    """Rows of two classes, one of which could not be scored."""
    p = np.linspace(0.5, 1.0, n)
    proba = np.column_stack([p, 1.0 - p])
    mass = np.linspace(0.2, 0.9, n)
    proba[0], mass[0] = np.nan, np.nan
    return ReferenceRows(proba, p > 0.8, mass, p < 0.6, p > 0.55)


def saved(folder: Path) -> LLMClassifier:
    """A classifier that was saved in a folder; its model is not opened."""
    clf = LLMClassifier(open_backend("openai:any", base_url="http://localhost:9/v1"), labels=["bad", "good"])
    clf.fit(["any text"]).save(folder)
    return clf


def content(folder: Path, reference: ReferenceRows, **changes: Any) -> Content:
    """What a certificate of the classifier in a folder says."""
    digest = sha256(array_bytes(reference.to_array())).hexdigest()
    share = {"value": 0.5, "low": 0.4, "high": 0.6}
    values: dict[str, Any] = {
        "format": 2,
        "llmclf": "0.1.0",
        "issued": "2026-01-31T12:00:00+00:00",
        "expires": "2027-01-31T12:00:00+00:00",
        "classifier": {
            "sha256": classifier_sha256(folder),
            "pipeline_sha256": 64 * "2",
            "classes": ["bad", "good"],
            "words": [["bad"], ["good"]],
            "prompt": {"template": "{{ text }}"},
            "n_shots": 0,
            "scoring": "sum",
            "processing": None,
            "bias": None,
            "calibrator": "temperature",
            "recalibration": None,
            "prior": False,
            "features": [],
            "n_calibration_rows": 100,
        },
        "model": {"model": "any"},
        "rows": {
            "sha256": 64 * "0",
            "n": len(reference),
            "n_groups": len(reference),
            "n_unscored": 1,
            "n_undecided": 3,
            "is_grouped": False,
            "is_uneven": False,
            "n_even": len(reference),
        },
        "guarantee": {
            "max_error": 0.1,
            "confidence": 0.95,
            "threshold": 0.8,
            "threshold_from": "before",
            "n_accepted": 16,
            "n_wrong": 0,
            "error": 0.0,
            "error_bound": 0.09,
            "coverage": share,
        },
        "calibration": {"error": 0.05, "null_mean": 0.04, "p_value": 0.4},
        "parts": [
            {
                "partition": "predicted class",
                "name": "bad",
                "n_rows": 40,
                "n_accepted": 16,
                "n_wrong": 0,
                "error": share,
                "coverage": share,
                "p_value": 0.01,
                "finding": "kept",
            }
        ],
        "n_statements": 2,
        "assumptions": ["The rows are like those to come."],
        "canary": {
            "kind": "texts",
            "rows": [{"text": "fine"}],
            "hashes": [64 * "1"],
            "scores": [[-1.5, None]],
            "probabilities": [[1.0, 0.0]],
            "score_noise": 0.0,
            "probability_noise": 0.0,
        },
        "reference": {"file": f"certificate-{digest[:32]}.npy", "sha256": digest},
        "attempts": {
            "n": 1,
            "n_not_shown": 0,
            "n_sharing": 0,
            "spent": 0.0,
            "level": 0.05,
            "n_judged_before": 0,
            "confidence_of_all": 0.95,
            "record": [],
        },
    }
    return Content.model_validate({**values, **changes})


def certificate(folder: Path, **changes: Any) -> Certificate:
    """A certificate of the classifier in a folder."""
    reference = reference_rows()
    return Certificate(content(folder, reference, **changes), reference)


def of_an_earlier_version(folder: Path) -> None:
    """Make the certificate in a folder one of format 1, which knew of no attempts."""
    file = folder / "certificate.json"
    values = json.loads(file.read_text())
    values["content"]["format"] = 1
    del values["content"]["attempts"]
    file.write_text(json.dumps(values))
