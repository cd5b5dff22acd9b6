"""The OpenAPI 3.1 description of the API, written by hand beside the code that it describes."""

from __future__ import annotations

from typing import Any

from sonoedge.edge_runtime.bundle.contract import REASONS
from sonoedge.edge_runtime.decode_limits import MAX_FRAMES
from sonoedge.edge_runtime.model.assess import VERDICTS
from sonoedge.edge_runtime.words import INTENDED_USE


def description(*, token: bool) -> dict[str, Any]:
    """The document served as ``/openapi.json``; ``token`` says whether this server asks for one."""
    answer = _object(
        image=_string("always `upload`: a file name could hold a patient's name"),
        label=_nullable(_string("the positive label where probability >= threshold; null where refused")),
        probability=_nullable(_number("of the positive label, 0–1; null where refused")),
        logit=_nullable(_number("its logit; null where refused")),
        threshold=_number("probability"),
        artifact=_string("the file of the bundle that answered"),
        latency_ms=_object(decode=_number(), resize=_number(), invoke=_number(), head=_number()),
        verdict={"type": "string", "enum": list(VERDICTS)},
        reasons={"type": "array", "items": {"type": "string", "enum": list(REASONS)}},
        text=_string("verdict and reasons in words"),
        gate=_nullable(
            _object(
                distance=_nullable(_number()), warning=_number("flagged above"), threshold=_number("refused above")
            )
        ),
        band=_nullable(_object(low=_number(), high=_number(), views={"type": "integer"})),
        hints={"type": "array", "items": _object(code=_string(), text=_string())},
        image_size={"type": "array", "items": {"type": "integer"}, "description": "height, width"},
        crop=_nullable({"type": "array", "items": {"type": "integer"}}),
        intended_use=_string(),
    )
    answer["properties"]["site"] = _string("whose threshold it is; only with the overlay of a site")
    parts = {"type": "number", "description": "part of the logit"}
    explained = _object(
        explained_label=_string(),
        branch=_string("whose map the next two describe"),
        peak_xy=_nullable({"type": "array", "items": {"type": "integer"}}),
        area_above_half_peak=_number(),
        logit_shares={"type": "object", "additionalProperties": parts},
        maps={
            "type": "object",
            "description": "`fused` and one map per branch; above zero speaks for the positive label",
            "additionalProperties": {"type": "array", "items": {"type": "array", "items": _number()}},
        },
    )
    upload = {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": _object(image={"type": "string", "contentMediaType": "application/octet-stream"})
            },
            "application/octet-stream": {"schema": {}},
            "image/*": {"schema": {}},
            "application/dicom": {"schema": {}},
        },
    }
    parameters = [
        _query("views", {"type": "integer", "minimum": 1, "maximum": 9, "default": 1}, "shifted crops for a band"),
        _query("crop", {"enum": ["none", "auto"], "default": "none"}, "classify the scan area only"),
        _query("preview", {"enum": ["0", "1"], "default": "0"}, "send the decoded picture back as JPEG"),
        _query(
            "frame",
            {"type": "integer", "minimum": 1, "maximum": MAX_FRAMES},
            "which one of a file of several frames; without it the answer is 422 with `frames`, how many there are",
        ),
    ]
    failures = {
        code: {"description": text, "content": {"application/json": {"schema": _object(error=_string())}}}
        for code, text in {
            "400": "malformed request", "401": "token missing or wrong", "403": "request from another site",
            "408": "client too slow", "413": "too many bytes or pixels", "415": "not an image type",
            "422": "not a readable image", "429": "too many wrong tokens", "503": "too many requests waiting",
        }.items()
    }  # fmt: skip
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "SonoEdge", "version": "1", "description": INTENDED_USE},
        "paths": {
            "/v1/predict": {
                "post": _operation(
                    "Classify one image", answer, failures, requestBody=upload, parameters=parameters
                )
            },
            "/v1/explain": {
                "post": _operation(
                    "Classify and explain one image",
                    {"allOf": [answer, _object(explanation=_nullable(explained))]},
                    failures,
                    requestBody=upload,
                    parameters=parameters,
                )
            },
            "/v1/bundle": {
                "get": _operation("The model: identity, digest, labels, threshold", {"type": "object"}, {})
            },
            "/v1/session": {
                "post": {
                    "summary": "Exchange a token for a session cookie",
                    "responses": {"204": {"description": "cookie set"}, **failures},
                }
            },
            "/v1/live": {
                "get": {
                    "summary": "WebSocket: binary image files in, one JSON object per computed frame out",
                    "responses": {"101": {"description": "switching protocols"}},
                }
            },
            "/healthz": {"get": _operation("200 when ready, 503 while starting", _object(status=_string()), {})},
            "/metrics": {
                "get": {
                    "summary": "Prometheus counters",
                    "responses": {"200": {"description": "text", "content": {"text/plain": {}}}},
                }
            },
        },
    }
    if token:
        document["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"token": []}]
    return document


def _operation(summary: str, schema: dict[str, Any], failures: dict[str, Any], **more: Any) -> dict[str, Any]:
    success = {"200": {"description": "answer", "content": {"application/json": {"schema": schema}}}}
    return {"summary": summary, **more, "responses": {**success, **failures}}


def _query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _number(text: str = "") -> dict[str, Any]:
    return {"type": "number", **({"description": text} if text else {})}


def _string(text: str = "") -> dict[str, Any]:
    return {"type": "string", **({"description": text} if text else {})}
