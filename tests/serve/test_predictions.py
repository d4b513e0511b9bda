"""What is answered to images: the same record as the command line's, whichever way they come."""

import asyncio
import base64
import io
import logging
import time
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lesion.config.serving import ServeConfig
from lesion.errors import CheckFailed
from lesion.inference.predictor import Predictor
from lesion.records import to_dict
from lesion.serve.app import create_app
from lesion.serve.slot import Serving, Slot
from tests.conftest import GOLDEN
from tests.serve.conftest import PICTURE, App, encode, problem

SECRET = "/srv/secret/model.onnx"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the model fail with the error that a test names."""

    def fail_with(error: Exception) -> None:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(Predictor, "decide", fail)
        monkeypatch.setattr(logging.getLogger("lesion"), "propagate", True)

    return fail_with


@pytest.mark.parametrize("path", ["/v1/predict", "/predict"])
def test_an_image_is_answered_with_the_predictors_record(client: TestClient, tiny_serving: Serving, path: str) -> None:
    response = client.post(path, files={"file": ("lesion.jpg", PICTURE)})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    expected = to_dict(tiny_serving.wide.predict(PICTURE, "lesion.jpg"))
    assert response.json() == {**expected, "flags": list(expected["flags"])}
    assert list(response.json()) == list(expected)


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "image/*", "application/octet-stream", "IMAGE/JPEG; q=1"])
def test_an_image_may_come_alone(client: TestClient, kind: str) -> None:
    alone = client.post("/v1/predict", content=PICTURE, headers={"content-type": kind}).json()
    framed = client.post("/v1/predict", files={"file": ("upload", PICTURE)}).json()
    assert alone == framed
    assert alone["source"] == "upload"


def test_a_model_of_two_classes_answers_without_diagnoses() -> None:
    app = create_app(Slot(Serving.load(GOLDEN / "tiny2.onnx", ServeConfig())), ServeConfig())
    answer = TestClient(app).post("/predict", files={"file": ("lesion.jpg", PICTURE)}).json()
    assert "diagnosis_probabilities" not in answer
    assert sum(answer["class_probabilities"].values()) == pytest.approx(1)


def test_a_batch_answers_in_order_and_lists_what_it_cannot_use(client: TestClient, tiny_serving: Serving) -> None:
    other = encode(Image.new("RGB", (40, 30), "white"))
    files = [("file", (name, content)) for name, content in (("a", PICTURE), ("b", b"text"), ("c", other))]
    answer = client.post("/v1/predict/batch", files=files).json()
    assert answer["schema"] == 1
    assert [each["source"] for each in answer["predictions"]] == ["a", "c"]
    expected = [tiny_serving.wide.predict(content, name) for name, content in (("a", PICTURE), ("c", other))]
    assert [each["class_probabilities"] for each in answer["predictions"]] == [e.class_probabilities for e in expected]
    (refused,) = answer["refused"]
    assert (refused["index"], refused["source"], refused["code"]) == (1, "b", "not_an_image")
    assert refused["hint"] == "convert it to JPEG or PNG"


def test_a_batch_of_one_alone(client: TestClient) -> None:
    answer = client.post("/v1/predict/batch", content=PICTURE, headers={"content-type": "image/jpeg"}).json()
    assert len(answer["predictions"]) == 1
    assert answer["refused"] == []


def test_a_batch_has_a_limit(make_app: App) -> None:
    client = TestClient(make_app(max_images=3))
    files = [("file", ("a.jpg", PICTURE))] * 3
    assert len(client.post("/v1/predict/batch", files=files).json()["predictions"]) == 3
    assert problem(client.post("/v1/predict/batch", files=files * 2), 413)["code"] == "too_many_images"
    assert problem(client.post("/v1/predict", files=files), 413)["code"] == "too_many_images"


def test_explain_adds_a_heat_map(client: TestClient, tiny_serving: Serving) -> None:
    plain = client.post("/v1/predict", files={"file": ("a.jpg", PICTURE)}).json()
    answer = client.post("/v1/predict?explain=1", files={"file": ("a.jpg", PICTURE)}).json()
    explanation = answer.pop("explanation")
    assert answer == plain
    heat = tiny_serving.wide.explain(tiny_serving.wide.read(PICTURE)[None])[0]
    assert np.allclose(explanation["grid"], heat, atol=1e-5)
    kind, _, data = explanation["overlay"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as overlay:
        assert (overlay.mode, overlay.size) == ("RGBA", (32, 32))


def test_a_batch_explains_each(client: TestClient) -> None:
    files = [("file", ("a.jpg", PICTURE))] * 2
    answer = client.post("/v1/predict/batch?explain=true", files=files).json()
    assert [bool(each["explanation"]["grid"]) for each in answer["predictions"]] == [True, True]


def test_explain_is_a_switch(client: TestClient) -> None:
    for word in ("0", "false"):
        assert "explanation" not in client.post(f"/v1/predict?explain={word}", files={"file": PICTURE}).json()
    for word in ("", "2", "%00"):
        assert problem(client.post(f"/v1/predict?explain={word}", files={"file": PICTURE}), 422)["code"] == (
            "wrong_parameter"
        )


@pytest.mark.parametrize("content", [b"", b"my notes", b"GIF89a" + bytes(50), b"%PDF-1.4", b"<svg/>", b"PK\x03\x04"])
def test_what_is_no_image_is_an_unsupported_media_type(client: TestClient, content: bytes) -> None:
    body = problem(client.post("/predict", files={"file": ("lesion.jpg", content, "image/jpeg")}), 415)
    assert body["code"] == "not_an_image"
    assert body["detail"] == "the image is not a JPEG or PNG image"
    assert body["hint"] == "convert it to JPEG or PNG"


def test_a_damaged_image_cannot_be_processed(client: TestClient) -> None:
    body = problem(client.post("/predict", files={"file": ("lesion.jpg", PICTURE[:900])}), 422)
    assert body["code"] == "image_error"
    assert body["detail"].startswith("the image is damaged or truncated")


def test_a_tiny_image_cannot_be_processed(client: TestClient) -> None:
    body = problem(client.post("/predict", files={"file": ("a.png", encode(Image.new("RGB", (1, 1))))}), 422)
    assert body["detail"] == "the image is 1×1: every side must have at least 16 pixels"


def test_an_animation_cannot_be_processed(client: TestClient) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    content = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert "2 frames" in problem(client.post("/predict", files={"file": ("a.png", content)}), 422)["detail"]


def test_an_image_of_too_many_pixels_is_too_large(client: TestClient) -> None:
    body = problem(client.post("/predict", files={"file": ("a.png", encode(Image.new("1", (6000, 6000))))}), 413)
    assert body["code"] == "image_too_large"
    assert "6000×6000" in body["detail"]


def test_metadata_neither_comes_back_nor_is_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    exif = Image.Exif()
    exif[0x010E] = "PATIENT NAME"
    content = encode(Image.new("RGB", (32, 32)), "JPEG", exif=exif)
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    response = client.post("/predict", files={"file": ("PATIENT.jpg", content)})
    assert response.json()["source"] == "PATIENT.jpg"
    assert response.status_code == 200
    assert "PATIENT NAME" not in response.text
    assert "PATIENT" not in caplog.text


def test_a_failure_of_ours_tells_the_log_and_not_the_client(
    client: TestClient, broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken(CheckFailed(f"{SECRET} answers NaN", hint=f"look at {SECRET}"))
    response = client.post("/predict", files={"file": ("a.jpg", PICTURE)}, headers={"x-request-id": "mine"})
    body = problem(response, 500)
    assert (body["code"], body["request_id"]) == ("check_failed", "mine")
    assert "detail" not in body
    assert f"mine: {SECRET} answers NaN" in caplog.text


def test_a_bug_of_ours_answers_without_internals(
    client: TestClient, broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken(RuntimeError(f"bug in {SECRET}"))
    body = problem(client.post("/predict", files={"file": ("a.jpg", PICTURE)}), 500)
    assert body["code"] == "internal_error"
    assert "detail" not in body
    assert SECRET in caplog.text


def test_one_image_without_an_answer_spoils_none_of_its_batch(
    client: TestClient, tiny_serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_for(self: Predictor, answers: Any, names: list[str]) -> Any:
        if np.allclose(answers.logits, dark):
            raise CheckFailed(f"{SECRET} has no answer for {names[0]}")
        return decide(self, answers, names)

    black, decide = encode(Image.new("RGB", (32, 32))), Predictor.decide
    dark = tiny_serving.wide.logits(tiny_serving.wide.read(black)[None])
    monkeypatch.setattr(Predictor, "decide", fail_for)
    monkeypatch.setattr(logging.getLogger("lesion"), "propagate", True)
    good, bad = ("file", ("good", PICTURE)), ("file", ("Doe_1961.png", black))
    response = client.post("/predict/batch", files=[good, bad, good])
    assert [each["source"] for each in response.json()["predictions"]] == ["good", "good"]
    (refused,) = response.json()["refused"]
    assert (refused["index"], refused["source"], refused["code"]) == (1, "Doe_1961.png", "check_failed")
    assert SECRET not in response.text
    problem(client.post("/predict", files=[bad]), 500)
    problem(client.post("/predict/batch", files=[bad, bad]), 500)
    assert 'lesion_model_failures_total{role="live"} 4.0' in client.get("/metrics").text
    assert "has no answer for the image" in caplog.text
    assert "Doe" not in caplog.text


def scope(**headers: str) -> dict[str, Any]:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "POST", "path": "/v1/predict", "raw_path": b"/v1/predict", "query_string": b"",
            "headers": raw, "http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0"},
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "root_path": ""}  # fmt: skip


def test_a_client_that_hangs_up_is_dropped_before_inference(make_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(threads=1)
    ran = 0
    run, read = Predictor.run, Predictor.read

    def count(self: Predictor, *words: Any, **more: Any) -> Any:
        nonlocal ran
        ran += 1
        return run(self, *words, **more)

    async def hang_up() -> list[Any]:
        sent: list[Any] = []
        gone, decoding = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(self: Predictor, source: Any) -> Any:
            loop.call_soon_threadsafe(decoding.set)
            time.sleep(0.2)
            return read(self, source)

        monkeypatch.setattr(Predictor, "read", slow)
        messages = iter([{"type": "http.request", "body": PICTURE, "more_body": False}])

        async def receive() -> Any:
            if message := next(messages, None):
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        task = asyncio.create_task(app(scope(content_type="image/jpeg"), receive, send))
        await decoding.wait()
        gone.set()
        await task
        pipeline = app.state.service.pipeline
        while pipeline.load:
            await asyncio.sleep(0.01)
        return sent

    monkeypatch.setattr(Predictor, "run", count)
    assert asyncio.run(hang_up()) == []
    assert ran == 0


def test_what_takes_too_long_is_answered_in_time(make_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Predictor.read
    monkeypatch.setattr(Predictor, "read", lambda self, source: (time.sleep(0.5), read(self, source))[1])
    with TestClient(make_app(deadline_s=0.05)) as client:
        response = client.post("/predict", files={"file": PICTURE})
        assert problem(response, 503)["code"] == "too_late"
        assert int(response.headers["retry-after"]) >= 1
