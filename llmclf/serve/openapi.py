"""The OpenAPI document of the routes, and the page that shows it, which loads nothing from anywhere."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from .. import __version__
from ..pages import render_page
from .limits import Limits

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "number"}
_PROBABILITY: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
_CONTENT: dict[str, Any] = {"type": ["string", "object", "array"]}
_MAYBE_CONTENT: dict[str, Any] = {"type": ["string", "object", "array", "null"]}


def document(limits: Limits, *, needs_key: bool) -> dict[str, Any]:
    """The document, in version 3.1.

    Parameters
    ----------
    limits : Limits
        Which the schemas state.
    needs_key : bool

    Examples
    --------
    >>> sorted(document(Limits(), needs_key=False)["paths"])[:2]
    ['/healthz', '/metrics']
    """
    security: dict[str, Any] = {"security": [{"key": []}]} if needs_key else {}
    schemes = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if needs_key else {}
    post = {
        "/v1/classify": _post(
            "Classify rows",
            "Rows in, one result for each; a row that cannot be scored is an error of its own result.",
            "Classify",
            {"model": "reviews", "inputs": ["A fine film."]},
        ),
        "/v1/systemone": _post(
            "System One",
            "Named questions about one state. A classifier asks its own question: the options have to be its classes, and "
            "instructions and descriptions are not shown to its model.",
            "SystemOne",
            {
                "model": "reviews",
                "state": "A fine film.",
                "questions": {"mood": {"type": "choice", "criteria": {"good": None, "bad": None}}},
            },
        ),
        "/v1/decisions": _post(
            "OpenAI Decisions",
            "A list of questions about one input, with the same rules. A question that cannot be answered is a refusal.",
            "Decisions",
            {
                "model": "reviews",
                "input": "A fine film.",
                "questions": [
                    {
                        "type": "choice",
                        "name": "mood",
                        "instructions": "How is it?",
                        "choices": [{"value": "good"}, {"value": "bad"}],
                    }
                ],
            },
        ),
    }
    get = {
        "/v1/models": _get("What is served", "Models"),
        "/healthz": _get("Whether the server is alive", "Status"),
        "/readyz": _get("Whether its models are open; 503 where they are not", "Status"),
        "/metrics": {
            "get": {
                "summary": "Metrics for Prometheus",
                "responses": {"200": {"description": "Text.", "content": {"text/plain": {"schema": _TEXT}}}},
            }
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llmclf serve",
            "version": __version__,
            "description": "Calibrated classifiers behind System One, OpenAI Decisions and a plain route.",
        },
        "paths": {**post, **get},
        "components": {"schemas": _schemas(limits), **schemes},
        **security,
    }


def page(described: dict[str, Any]) -> str:
    """The document as HTML, without a script."""
    operations = [
        {
            "path": path,
            "method": method.upper(),
            **operation,
            "example": _pretty(_example(operation)) if "requestBody" in operation else "",
        }
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = {name: _pretty(schema) for name, schema in described["components"]["schemas"].items()}
    return render_page(
        resources.files(__package__) / "templates",
        "openapi.html.j2",
        style="openapi.css",
        script=None,
        title=described["info"]["title"],
        info=described["info"],
        operations=operations,
        schemas=schemas,
        needs_key="security" in described,
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _example(operation: dict[str, Any]) -> Any:
    return operation["requestBody"]["content"]["application/json"]["example"]


def _post(summary: str, text: str, name: str, example: Any) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}Error"}}}
    reasons = {
        "4XX": "The request cannot be answered: its form, a key, a limit, an unknown model or class.",
        "429": "Too many rows wait already; Retry-After says when to ask again.",
        "5XX": "The model cannot answer now; nothing is wrong with the request.",
    }
    return {
        "post": {
            "summary": summary,
            "description": text,
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": f"#/components/schemas/{name}Request"},
                        "example": example,
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "The answers.",
                    "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}Reply"}}},
                },
                **{status: {"description": reason, "content": error} for status, reason in reasons.items()},
            },
        }
    }


def _get(summary: str, name: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    reply = {"description": summary, "content": {"application/json": {"schema": schema}}}
    return {"get": {"summary": summary, "responses": {"200": reply}}}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _list(items: dict[str, Any], least: int = 0, most: int | None = None) -> dict[str, Any]:
    ends = {"minItems": least, **({} if most is None else {"maxItems": most})}
    return {"type": "array", "items": items, **ends}


def _either(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": list(schemas)}


def _constant(value: str) -> dict[str, Any]:
    return {"const": value}


def _schemas(limits: Limits) -> dict[str, Any]:
    certificate = _object(
        {"id": {"type": ["string", "null"]}, "status": {"enum": ["valid", "expired", "none", "broken"]}}
    )
    facts = {
        "version": _TEXT,
        "labels": {"enum": ["fixed", "request"]},
        "calibrated": {"type": "boolean"},
        "threshold": {"type": ["number", "null"]},
        "certificate": certificate,
    }
    shared = {"model": _TEXT, **facts, "request_id": _TEXT}
    row = {
        "id": _TEXT,
        "accepted": {"type": ["boolean", "null"]},
        "label_mass": {"type": ["number", "null"]},
        "undecided": {"type": "boolean"},
        "characters_cut": {"type": "integer"},
    }
    error = _object({"type": _TEXT, "message": _TEXT})
    own = {"x_llmclf": _object(row)}
    usage = {"input_tokens": {"type": "integer", "minimum": 0}, "output_tokens": {"type": "integer", "minimum": 0}}
    probabilities = {"type": "object", "additionalProperties": _PROBABILITY}
    noul = _object(
        {"type": _constant("noul")}, {"instructions": _MAYBE_CONTENT, "criteria": {"type": ["object", "null"]}}
    )
    choice = _object(
        {
            "type": _constant("choice"),
            "criteria": {"type": "object", "minProperties": 1, "maxProperties": limits.choices},
        },
        {"instructions": _MAYBE_CONTENT},
    )
    score = _object({"type": _constant("score"), "criteria": _list(_CONTENT, 1, 10)}, {"instructions": _MAYBE_CONTENT})
    described = {"description": {"type": ["string", "null"]}}
    asked = {"instructions": _TEXT}
    named = {"name": {"type": ["string", "null"]}}
    return {
        "ClassifyRequest": _object(
            {"inputs": _list({"type": ["string", "object"]}, 1, limits.rows)},
            {"model": _TEXT, "labels": _list(_TEXT, 2, limits.choices), "instructions": _MAYBE_CONTENT},
        ),
        "ClassifyReply": _object(
            {
                **shared,
                "results": _list(
                    _object(
                        {
                            "label": {},
                            "probabilities": _either(probabilities, {"type": "null"}),
                            **row,
                            "error": _either(error, {"type": "null"}),
                        }
                    )
                ),
            }
        ),
        "ClassifyError": _object(
            {"error": _object({"type": _TEXT, "message": _TEXT, "place": {"type": "array"}}), "request_id": _TEXT}
        ),
        "SystemOneRequest": _object(
            {
                "state": _CONTENT,
                "questions": {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": limits.questions,
                    "additionalProperties": _either(noul, choice, score),
                },
            },
            {"model": _TEXT},
        ),
        "SystemOneReply": _object(
            {
                "model": _TEXT,
                "answers": {
                    "type": "object",
                    "additionalProperties": _either(
                        _object({"type": _constant("noul"), "noul": _PROBABILITY, **own}),
                        _object(
                            {
                                "type": _constant("choice"),
                                "choice": _TEXT,
                                "probabilities": probabilities,
                                "confidence": _PROBABILITY,
                                **own,
                            }
                        ),
                        _object(
                            {
                                "type": _constant("score"),
                                "score": _NUMBER,
                                "legend": {"type": "object"},
                                "probabilities": probabilities,
                                "confidence": _PROBABILITY,
                                **own,
                            }
                        ),
                    ),
                },
                "usage": _object(usage),
                "x_llmclf": _object(shared),
            }
        ),
        "SystemOneError": _object(
            {
                "detail": _either(
                    _list(_object({"loc": {"type": "array"}, "msg": _TEXT, "type": _TEXT}), 1),
                    _object({"error_type": _TEXT, "message": _TEXT}),
                )
            }
        ),
        "DecisionsRequest": _object(
            {
                "input": _either(_TEXT, _list({"type": "object"})),
                "questions": _list(
                    _either(
                        _object({"type": _constant("predicate"), **asked}, named),
                        _object(
                            {
                                "type": _constant("choice"),
                                **asked,
                                "choices": _list(
                                    _object({"value": {"type": ["string", "boolean"]}}, described), 2, limits.choices
                                ),
                            },
                            named,
                        ),
                        _object(
                            {
                                "type": _constant("score"),
                                **asked,
                                "levels": _list(_object({"label": _TEXT}, described), 2, 10),
                            },
                            named,
                        ),
                    ),
                    1,
                    limits.questions,
                ),
            },
            {"model": _TEXT},
        ),
        "DecisionsReply": _object(
            {
                "model": _TEXT,
                "answers": _list(
                    _either(
                        _object({"type": _constant("predicate"), "probability": _PROBABILITY, **own}, named),
                        _object(
                            {
                                "type": _constant("choice"),
                                "choice": {"type": ["string", "boolean"]},
                                "confidence": _PROBABILITY,
                                "probabilities": _list(
                                    _object({"value": {"type": ["string", "boolean"]}, "probability": _PROBABILITY})
                                ),
                                **own,
                            },
                            named,
                        ),
                        _object(
                            {
                                "type": _constant("score"),
                                "score": _NUMBER,
                                "confidence": _PROBABILITY,
                                "probabilities": _list(
                                    _object({"value": {"type": "integer"}, "label": _TEXT, "probability": _PROBABILITY})
                                ),
                                **own,
                            },
                            named,
                        ),
                        _object({"type": _constant("refusal"), **own}, named),
                    )
                ),
                "usage": _object({**usage, "total_tokens": {"type": "integer"}}),
                "x_llmclf": _object(shared),
            }
        ),
        "DecisionsError": _object(
            {
                "error": _object(
                    {
                        "message": _TEXT,
                        "type": _TEXT,
                        "param": {"type": ["string", "null"]},
                        "code": _TEXT,
                    }
                )
            }
        ),
        "Models": _object(
            {
                "models": _list(
                    _object({"name": _TEXT, "description": _TEXT, "release_date": _TEXT, "x_llmclf": _object(facts)}), 1
                ),
                "data": _list(_object({"id": _TEXT, "object": _constant("model")})),
            }
        ),
        "Status": _object(
            {"status": _TEXT},
            {"reason": _TEXT, "certificates": {"type": "object", "additionalProperties": {"type": "integer"}}},
        ),
    }
