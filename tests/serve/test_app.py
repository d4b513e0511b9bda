"""Who may ask, what every answer carries, and what is said about the server and its model."""

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lesion.errors import ConfigError, NotFoundError
from lesion.records import NOTICE
from lesion.serve.slot import Serving
from tests.serve.conftest import PICTURE, App, problem

ASK = {"file": ("a.jpg", PICTURE)}


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    path = tmp_path / "tokens"
    path.write_text(f"{hashlib.sha256(b'secret').hexdigest()} ward-3\n")
    return str(path)


def test_live_and_ready(client: TestClient, tiny_serving: Serving) -> None:
    assert client.get("/livez").json() == {"status": "live"}
    assert client.get("/readyz").json() == {"status": "ready", "model": tiny_serving.identity}


def test_not_ready_while_busy_or_draining(make_app: App) -> None:
    app = make_app()
    client, service = TestClient(app), app.state.service
    service.pipeline.load = 10**6
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (503, "busy")
    refused = client.post("/v1/predict", files=ASK)
    assert problem(refused, 503)["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1
    service.pipeline.load = 0
    service.gate.draining = True
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (503, "draining")
    assert problem(client.post("/v1/predict", files=ASK), 503)["code"] == "draining"
    assert response.headers["connection"] == "close"
    assert client.get("/livez").status_code == 200


def test_a_full_queue_refuses_before_the_body_is_read(make_app: App) -> None:
    app = make_app()
    app.state.service.pipeline.load = 10**6
    response = TestClient(app).post("/v1/predict", content=iter([b"x"]), headers={"content-type": "text/plain"})
    assert problem(response, 503)["code"] == "overloaded"


@pytest.mark.parametrize("path", ["/v1/model", "/model"])
def test_the_model_says_what_it_is(client: TestClient, tiny_serving: Serving, path: str) -> None:
    card = client.get(path).json()
    manifest = tiny_serving.manifest
    assert card["model"] == tiny_serving.identity
    assert card["digest"] == tiny_serving.wide.artifact.digest
    assert card["labels"] == list(manifest.taxonomy.labels)
    assert set(card["malignant"]) < set(card["labels"])
    assert card["preprocess"] == {"size": 32, "filter": "bilinear", "reduce": False}
    assert (card["threshold"], card["temperature"]) == (manifest.threshold, manifest.temperature)
    assert card["conformal"]["coverage"] == manifest.conformal.coverage
    assert card["checks"][0]["low_flag"] == "too_dark"
    assert card["provenance"] == manifest.provenance
    assert card["notice"] == NOTICE


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/predict/more", "/v2/predict", "/docs"])
def test_an_unknown_path_is_not_found(client: TestClient, path: str) -> None:
    assert problem(client.post(path), 404)["code"] == "not_found"


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict"), ("PUT", "/v1/predict"), ("POST", "/livez")])
def test_another_method_is_not_allowed(client: TestClient, method: str, path: str) -> None:
    response = client.request(method, path)
    assert problem(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == ("GET" if path == "/livez" else "POST")


@pytest.mark.parametrize("path", ["/livez", "/nowhere", "/v1/model", "/openapi.json"])
def test_every_answer_is_dressed(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert len(headers["x-request-id"]) >= 16
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


def test_a_request_id_comes_back_if_it_is_harmless(client: TestClient) -> None:
    def ask(word: bytes) -> str:
        return str(client.get("/livez", headers={b"x-request-id": word}).headers["x-request-id"])

    assert ask(b"ward-3.scan_17") == "ward-3.scan_17"
    for word in (b"x" * 65, b"a b", b"<script>", b"", b"a\xfc"):
        assert ask(word) not in (word.decode("latin-1"), "")


@pytest.mark.parametrize("path", ["/v1/predict", "/predict/batch", "/v1/model", "/v1/drift", "/metrics"])
def test_a_token_is_asked_for(make_app: App, tokens: str, path: str) -> None:
    client = TestClient(make_app(tokens=tokens))
    method = "POST" if "predict" in path else "GET"
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}):
        response = client.request(method, path, headers=headers)
        assert problem(response, 401)["code"] == "unauthorized"
        assert response.headers["www-authenticate"] == "Bearer"
    response = client.request(method, path, headers={"authorization": "Bearer secret"}, files=ASK)
    assert response.status_code == 200


def test_probes_and_the_description_need_no_token(make_app: App, tokens: str) -> None:
    client = TestClient(make_app(tokens=tokens))
    assert [client.get(path).status_code for path in ("/livez", "/readyz", "/openapi.json")] == [200] * 3


def test_a_server_without_its_tokens_does_not_start(make_app: App, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        make_app(tokens=str(tmp_path / "none"))


def test_images_are_counted_per_client(make_app: App, tokens: str) -> None:
    client = TestClient(make_app(rate=1, burst=3, proxies=1))
    two = [("file", ("a.jpg", PICTURE))] * 2
    here, there = {"x-forwarded-for": "6.6.6.6, 1.2.3.4"}, {"x-forwarded-for": "6.6.6.6, 1.2.3.5"}
    assert client.post("/v1/predict/batch", files=two, headers=here).status_code == 200
    assert client.post("/v1/predict", files=ASK, headers=here).status_code == 200
    response = client.post("/v1/predict", files=ASK, headers={"x-forwarded-for": "6.6.6.7, 1.2.3.4"})
    assert problem(response, 429)["code"] == "too_many_requests"
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert client.post("/v1/predict", files=ASK, headers=there).status_code == 200


def test_a_token_is_counted_wherever_it_comes_from(make_app: App, tokens: str) -> None:
    client = TestClient(make_app(rate=1, burst=1, proxies=1, tokens=tokens))
    with_token = {"authorization": "Bearer secret"}
    statuses = [
        client.post("/v1/predict", files=ASK, headers={**with_token, "x-forwarded-for": f"1.2.3.{i}"}).status_code
        for i in range(2)
    ]
    assert statuses == [200, 429]


def test_a_page_of_another_site_may_not_ask(make_app: App) -> None:
    foreign = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
    assert problem(TestClient(make_app()).post("/v1/predict", files=ASK, headers=foreign), 403)["code"] == "cross_site"
    client = TestClient(make_app(origins=["https://evil.example"]))
    assert client.post("/v1/predict", files=ASK, headers=foreign).status_code == 200


def test_other_origins_are_allowed_by_name_only(make_app: App) -> None:
    client = TestClient(make_app(origins=["https://ward.example"]))
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    allowed = client.options("/v1/predict", headers={"origin": "https://ward.example", **ask})
    assert allowed.headers["access-control-allow-origin"] == "https://ward.example"
    refused = client.options("/v1/predict", headers={"origin": "https://evil.example", **ask})
    assert "access-control-allow-origin" not in refused.headers


def test_metrics_count_what_was_answered(client: TestClient, tiny_serving: Serving) -> None:
    client.post("/v1/predict", files=ASK)
    client.post("/predict/batch", files=[("file", ("a", PICTURE)), ("file", ("b", PICTURE))])
    client.post("/v1/predict", files={"file": b"text"})
    client.get("/" + "x" * 30)
    text = client.get("/metrics").text
    assert 'lesion_requests_total{method="POST",route="/predict",status="2xx"} 1.0' in text
    assert 'lesion_requests_total{method="POST",route="/predict/batch",status="2xx"} 1.0' in text
    assert 'lesion_requests_total{method="GET",route="unmatched",status="4xx"} 1.0' in text
    assert 'lesion_rejections_total{reason="not_an_image"} 1.0' in text
    assert f'lesion_model_info{{model="{tiny_serving.identity}",role="live"}} 1.0' in text
    for stage in ("receive", "queue", "decode", "wait", "infer", "total"):
        assert f'lesion_stage_seconds_count{{role="live",stage="{stage}"}}' in text


def test_drift_is_reported(client: TestClient) -> None:
    before = client.get("/v1/drift").json()["images"]
    client.post("/v1/predict", files=ASK)
    assert client.get("/v1/drift").json()["images"] == before + 1


def test_the_journal_is_kept(make_app: App, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with TestClient(make_app(journal=str(path))) as client:
        client.post("/v1/predict", files=ASK, headers={"x-request-id": "mine"})
    with sqlite3.connect(path) as database:
        rows = database.execute("select request, image from predictions").fetchall()
    assert rows == [("mine", hashlib.sha256(PICTURE).hexdigest())]


def test_a_journal_that_cannot_be_opened_is_told_at_the_start(make_app: App) -> None:
    with pytest.raises(ConfigError):
        make_app(journal="mysql://x/y")


def test_the_description_fits_the_answers(client: TestClient) -> None:
    document = json.loads(client.get("/openapi.json").content)
    assert list(document["paths"]) == [
        "/v1/predict", "/v1/predict/batch", "/v1/model", "/v1/drift", "/livez", "/readyz", "/metrics",
    ]  # fmt: skip
    schemas = document["components"]["schemas"]
    answer = client.post("/v1/predict?explain=1", files=ASK).json()
    explanation = answer.pop("explanation")
    assert set(answer) == set(schemas["Prediction"]["properties"])
    assert set(explanation) == set(schemas["Explanation"]["properties"])
    assert set(client.get("/v1/model").json()) == set(schemas["Model"]["properties"])
    assert "operating point" in schemas["Prediction"]["properties"]["prediction"]["description"]
    example = document["paths"]["/v1/predict"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    assert set(example) == set(answer)
    refused = client.post("/v1/predict/batch", files={"file": b"text"}).json()["refused"][0]
    assert set(refused) == set(schemas["RefusedImage"]["properties"])
    assert set(problem(client.post("/v1/predict", files={"file": b"text"}), 415)) == set(
        schemas["Problem"]["properties"]
    )


def test_all_that_is_referred_to_is_described(client: TestClient) -> None:
    text = client.get("/openapi.json").text
    names = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(json.loads(text)["components"]["schemas"])
