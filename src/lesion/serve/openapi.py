"""The description of the API, at /openapi.json: schemas from the records themselves, with examples."""

import ast
import inspect
import textwrap
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from lesion import __version__
from lesion.manifest import Check, Conformal
from lesion.preprocess import PreprocessSpec
from lesion.records import NOTICE, Prediction
from lesion.serve.overlay import Explanation

Schema = dict[str, Any]
TEXT, NUMBER, COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
RECORD: Schema = {
    "source": "lesion.jpg",
    "prediction": "malignant",
    "confidence": 0.83,
    "decision": "malignant",
    "flags": [],
    "class_probabilities": {"benign": 0.17, "malignant": 0.83},
    "diagnosis_probabilities": {
        "akiec": 0.03,
        "bcc": 0.05,
        "bkl": 0.06,
        "df": 0.01,
        "mel": 0.75,
        "nv": 0.09,
        "vasc": 0.01,
    },
    "model": "efficientnet-b0@4c1f8a90e2d7",
}
PROBLEM: Schema = {
    "type": "about:blank",
    "title": "Unsupported Media Type",
    "status": 415,
    "code": "not_an_image",
    "detail": "the image is not a JPEG or PNG image",
    "hint": "convert it to JPEG or PNG",
    "request_id": "0f8fad5bd9cb469fa16570867728950e",
}
REFUSALS = {
    400: "The form is malformed.",
    401: "No token, or one that is not known.",
    403: "A page of another site asks.",
    413: "Too many bytes, pixels, parts or images.",
    415: "No JPEG or PNG.",
    422: "An image that cannot be used, or none.",
    429: "This client sends too many images; Retry-After says when it may again.",
    431: "Too many headers.",
    503: "Too much to do, too late, or about to stop; Retry-After says when to ask again.",
}
EXPLAIN: Schema = {
    "name": "explain",
    "in": "query",
    "description": "1 adds a heat map to each answer.",
    "schema": {"enum": ["0", "1", "false", "true"], "default": "0"},
}
REQUEST_ID: Schema = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "An id of your own for this request, of 1 to 64 of the characters A-Z a-z 0-9 . _ -; it comes back.",
    "schema": TEXT,
}
FILE: Schema = {"type": "string", "format": "binary"}


def _object(required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": required.split(), "properties": properties}


def _many(name: str) -> Schema:
    return {"type": "array", "items": _refer(name)}


def _refer(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: Schema = {
    "Answer": {"allOf": [_refer("Prediction"), _object("", explanation=_refer("Explanation"))]},
    "Batch": _object(
        "schema predictions refused", schema=COUNT, predictions=_many("Answer"), refused=_many("RefusedImage")
    ),
    "RefusedImage": _object(
        "index source code detail hint", index=COUNT, source=TEXT, code=TEXT, detail=TEXT, hint=TEXT
    ),
    "Problem": _object(
        "type title status code request_id",
        type=TEXT, title=TEXT, status=COUNT, code=TEXT, detail=TEXT, hint=TEXT, request_id=TEXT,
    ),
    "Status": _object(
        "status", status={"enum": ["live", "ready", "busy", "draining", "stuck", "no_tokens"]}, model=TEXT
    ),
    "Model": _object(
        "model name digest format labels malignant preprocess temperature threshold conformal checks provenance notice",
        model=TEXT, name=TEXT, digest=TEXT, format=COUNT, labels={"type": "array", "items": TEXT},
        malignant={"type": "array", "items": TEXT}, preprocess=_refer("PreprocessSpec"), temperature=NUMBER,
        threshold=NUMBER, conformal=_refer("Conformal"), checks=_many("Check"), provenance={"type": "object"},
        notice=TEXT,
    ),
    "Drift": {"type": "object"},
}  # fmt: skip


def describe_predict(several: bool) -> Schema:
    """What FastAPI is told about POST /v1/predict, or of several images /v1/predict/batch."""
    field = {"type": "array", "items": FILE, "minItems": 1} if several else FILE
    form = {"schema": {"type": "object", "required": ["file"], "properties": {"file": field}}}
    alone = {kind: {"schema": FILE} for kind in ("image/jpeg", "image/png")}
    body = {"required": True, "content": {"multipart/form-data": form, **alone}}
    answer, example = (
        ("Batch", {"schema": 1, "predictions": [RECORD], "refused": []}) if several else ("Answer", RECORD)
    )
    return {
        "responses": {200: _json("The answer.", answer, example), **_problems(*REFUSALS)},
        "openapi_extra": {"requestBody": body, "parameters": [EXPLAIN, REQUEST_ID]},
        "tags": ["predictions"],
    }


def describe_probe(schema: str | None = None, *refusals: int) -> Schema:
    """What FastAPI is told about a GET that answers `schema`, or text without one."""
    answer = _json("The answer.", schema) if schema else {"description": "Text.", "content": {"text/plain": {}}}
    return {"responses": {200: answer, **_problems(*refusals, 431)}, "tags": ["state"]}


def describe(app: FastAPI) -> Schema:
    """The whole document."""
    document: Schema = get_openapi(title="lesion", version=__version__, description=NOTICE, routes=app.routes)
    records = {each.__name__: schema_of(each) for each in (Prediction, Explanation, PreprocessSpec, Conformal, Check)}
    records["Prediction"]["required"].remove("diagnosis_probabilities")  # left out where it is None
    security = {"token": {"type": "http", "scheme": "bearer"}}
    document["components"] = {"schemas": SCHEMAS | records, "securitySchemes": security}
    document["security"] = [{}, {"token": []}]
    return document


def schema_of(record: type) -> Schema:
    """The JSON schema of a dataclass, each field described by the text below it."""
    schema = TypeAdapter(record).json_schema()
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(tree, ast.ClassDef)
    for field, note in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(note, ast.Expr) and isinstance(note.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            schema["properties"][field.target.id]["description"] = " ".join(str(note.value.value).split())
    return dict(schema)


def _json(description: str, schema: str, example: Schema | None = None) -> Schema:
    content: Schema = {"schema": _refer(schema)} | ({"example": example} if example else {})
    return {"description": description, "content": {"application/json": content}}


def _problems(*statuses: int) -> Schema:
    content = {"application/problem+json": {"schema": _refer("Problem"), "example": PROBLEM}}
    return {str(status): {"description": REFUSALS[status], "content": content} for status in statuses}
