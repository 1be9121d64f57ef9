"""The schema of certificates, for whoever reads them without Python."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from certificates import made

from llmclf.certificates.content import schema

FILE = Path(str(resources.files("llmclf.certificates"))) / "certificate.schema.json"


def test_the_schema_is_that_of_the_fields():
    """After a change of a field: write schema() into the file as JSON with an indent of 2."""
    assert json.loads(FILE.read_text()) == schema()


def test_a_certificate_follows_it(tmp_path):
    """As a validator of another author sees it."""
    made.saved(tmp_path / "clf")
    made.certificate(tmp_path / "clf").save(tmp_path / "clf")
    written = json.loads((tmp_path / "clf" / "certificate.json").read_text())
    jsonschema.Draft202012Validator(schema()).validate(written)


@pytest.mark.parametrize("change", [{"more": 1}, {"id": "X"}, {"content": {}}])
def test_what_is_none_does_not(tmp_path, change):
    """A field more, a wrong id, an empty content."""
    made.saved(tmp_path / "clf")
    values = made.certificate(tmp_path / "clf").to_dict()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate({**values, **change})
