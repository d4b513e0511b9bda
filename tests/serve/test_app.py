"""The HTTP face: the same record as the command line, refusals as problem details, an orderly end."""

import asyncio
import io
import json
import logging
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lesion.errors import CheckFailed
from lesion.inference.predictor import Predictor, draw_test_image
from lesion.serve.app import create_app
from tests.conftest import GOLDEN, Cli

LIMIT = 20_000
SECRET = "/srv/secret/model.onnx"


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


PICTURE = encode(draw_test_image(), "JPEG")


@pytest.fixture(scope="module")
def shared() -> Predictor:
    return Predictor.load(GOLDEN / "tiny.onnx")


@pytest.fixture
def predictor() -> Predictor:
    """One of its own, to be broken."""
    return Predictor.load(GOLDEN / "tiny.onnx")


@pytest.fixture
def client(shared: Predictor) -> TestClient:
    return TestClient(create_app(shared, LIMIT))


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem details of a refusal."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = dict(response.json())
    assert body["type"] == "about:blank"
    assert body["status"] == status
    assert body["title"]
    assert "Traceback" not in response.text
    return body


def test_an_image_is_answered_with_the_predictors_record(client: TestClient, shared: Predictor) -> None:
    response = client.post("/predict", files={"file": ("lesion.jpg", PICTURE)})
    assert response.status_code == 200
    expected = shared.predict(PICTURE, "lesion.jpg")
    assert response.json() == {
        "source": "lesion.jpg",
        "prediction": expected.prediction,
        "confidence": expected.confidence,
        "class_probabilities": expected.class_probabilities,
        "diagnosis_probabilities": expected.diagnosis_probabilities,
        "model": shared.identity,
    }


def test_a_model_of_two_classes_answers_without_diagnoses() -> None:
    client = TestClient(create_app(Predictor.load(GOLDEN / "tiny2.onnx")))
    answer = client.post("/predict", files={"file": ("lesion.jpg", PICTURE)}).json()
    assert list(answer) == ["source", "prediction", "confidence", "class_probabilities", "model"]


def test_live_and_ready(client: TestClient, shared: Predictor) -> None:
    assert client.get("/livez").json() == {"status": "live"}
    assert client.get("/readyz").json() == {"status": "ready", "model": shared.identity}


def test_text_is_an_unsupported_media_type(client: TestClient) -> None:
    body = problem(client.post("/predict", files={"file": ("lesion.jpg", b"my notes", "image/jpeg")}), 415)
    assert body["title"] == "NotAnImage"
    assert body["detail"] == "the image is not a JPEG or PNG image"
    assert body["hint"] == "convert it to JPEG or PNG"


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(50)], ids=["empty", "gif"])
def test_what_is_no_image_is_an_unsupported_media_type(client: TestClient, content: bytes) -> None:
    problem(client.post("/predict", files={"file": ("lesion.jpg", content)}), 415)


def test_a_damaged_image_cannot_be_processed(client: TestClient) -> None:
    body = problem(client.post("/predict", files={"file": ("lesion.jpg", PICTURE[:900])}), 422)
    assert body["title"] == "ImageError"
    assert body["detail"].startswith("the image is damaged or truncated")
    assert body["hint"] == "fetch or export the image again"


def test_a_tiny_image_cannot_be_processed(client: TestClient) -> None:
    body = problem(client.post("/predict", files={"file": ("a.png", encode(Image.new("RGB", (1, 1))))}), 422)
    assert body["detail"] == "the image is 1×1: every side must have at least 16 pixels"


def test_an_image_of_too_many_pixels_is_too_large(client: TestClient) -> None:
    body = problem(client.post("/predict", files={"file": ("a.png", encode(Image.new("1", (6000, 6000))))}), 413)
    assert body["title"] == "ImageTooLarge"
    assert "6000×6000" in body["detail"]


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"files": {"image": ("lesion.jpg", PICTURE)}},
        {"data": {"file": "lesion.jpg"}},
        {"json": {"file": "lesion.jpg"}},
        {"content": PICTURE, "headers": {"content-type": "image/jpeg"}},
    ],
    ids=["nothing", "another field", "a text", "json", "the image alone"],
)
def test_a_request_without_the_field_is_told_which(client: TestClient, request_: dict[str, Any]) -> None:
    body = problem(client.post("/predict", **request_), 422)
    assert body["title"] == "WrongRequest"
    assert body["detail"].startswith("body.file: ")
    assert body["hint"] == "send one image as the multipart field `file`"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("multipart/form-data", b"junk"),
        ("multipart/form-data; boundary=x", b"junk"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--\r\n"),
    ],
    ids=["no boundary", "another boundary", "no name"],
)
def test_a_malformed_form_is_a_bad_request(client: TestClient, kind: str, content: bytes) -> None:
    problem(client.post("/predict", content=content, headers={"content-type": kind}), 400)


@pytest.mark.parametrize("path", ["/", "/nowhere", "/predict/more", "/livez/../../etc/passwd"])
def test_an_unknown_path_is_not_found(client: TestClient, path: str) -> None:
    assert problem(client.post(path), 404)["title"] == "Not Found"


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict"), ("PUT", "/predict"), ("POST", "/livez")])
def test_another_method_is_not_allowed(client: TestClient, method: str, path: str) -> None:
    response = client.request(method, path)
    assert problem(response, 405)["title"] == "Method Not Allowed"
    assert response.headers["allow"] == ("POST" if path == "/predict" else "GET")


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>.jpg", 'quo"te.jpg', "läsion 🔬.jpg", "line\nfeed\r.jpg", "../../etc/passwd", "%00.jpg"],
)
def test_a_file_name_comes_back_as_nothing_but_a_json_string(client: TestClient, name: str) -> None:
    response = client.post("/predict", files={"file": (name, PICTURE)})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert "\n" not in response.text
    # A client has to send quotes and line ends in a file name as %22, %0A and %0D; they stay so.
    assert response.json()["source"] == name.replace('"', "%22").replace("\n", "%0A").replace("\r", "%0D")


def form(header: bytes, content: bytes) -> bytes:
    return b"--x\r\nContent-Disposition: form-data; " + header + b"\r\n\r\n" + content + b"\r\n--x--\r\n"


@pytest.mark.parametrize("charset", ["unicode_escape", "raw_unicode_escape", "utf-7", "rot13", "nonsense", "punycode"])
def test_a_file_name_in_an_odd_charset_is_no_reason_to_fail(client: TestClient, charset: str) -> None:
    content = form(b'name="file"; filename="a\\ud800+2AA-.png"', PICTURE)
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    response = client.post("/predict", content=content, headers={"content-type": kind})
    assert response.status_code == 200 or problem(response, 400)


def test_half_a_surrogate_pair_in_a_file_name_becomes_a_question_mark(client: TestClient) -> None:
    content = form(b'name="file"; filename="a\\ud800.png"', PICTURE)
    kind = "multipart/form-data; boundary=x; charset=unicode_escape"
    assert client.post("/predict", content=content, headers={"content-type": kind}).json()["source"] == "a?.png"


def test_a_long_file_name_is_cut(client: TestClient) -> None:
    assert client.post("/predict", files={"file": ("n" * 300 + ".jpg", PICTURE)}).json()["source"] == "n" * 255


def test_a_large_body_with_its_length_is_too_large(client: TestClient) -> None:
    body = problem(client.post("/predict", files={"file": ("a.jpg", bytes(LIMIT))}), 413)
    assert body["title"] == "ImageTooLarge"
    assert body["detail"] == "the request has more than 0.0191 MiB"
    assert body["hint"] == "compress or downscale the image"


def test_a_body_at_the_limit_is_answered(shared: Predictor) -> None:
    content = form(b'name="file"; filename="a.jpg"', PICTURE)
    headers = {"content-type": "multipart/form-data; boundary=x"}
    at = TestClient(create_app(shared, len(content))).post("/predict", content=content, headers=headers)
    assert at.status_code == 200
    above = TestClient(create_app(shared, len(content) - 1)).post("/predict", content=content, headers=headers)
    problem(above, 413)


@pytest.mark.parametrize("length", [None, b"10", b"99999999999"], ids=["no length", "a small lie", "a large lie"])
@pytest.mark.parametrize("kind", [b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded"])
def test_of_an_endless_body_hardly_more_than_the_limit_is_read(
    shared: Predictor, kind: bytes, length: bytes | None
) -> None:
    start = form(b'name="file"; filename="a.jpg"', b"")[:-9] if kind.startswith(b"multi") else b"file="
    piece, read, sent = 1000, 0, []

    async def receive() -> dict[str, Any]:
        nonlocal read
        body = bytes(piece) if read else start
        read += len(body)
        assert read < 10 * LIMIT, "reads on and on"
        return {"type": "http.request", "body": body, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", kind), *([(b"content-length", length)] if length else [])]
    scope = {"type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"",
             "headers": headers, "http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0"},
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "root_path": ""}  # fmt: skip
    asyncio.run(create_app(shared, LIMIT)(scope, receive, send))
    assert LIMIT < read <= LIMIT + piece
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 413
    assert json.loads(sent[1]["body"])["title"] == "ImageTooLarge"


def test_a_failure_of_ours_tells_the_log_and_not_the_client(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise CheckFailed(f"{SECRET} answers NaN", hint=f"look at {SECRET}")

    monkeypatch.setattr(predictor, "predict", fail)
    monkeypatch.setattr(logging.getLogger("lesion"), "propagate", True)
    response = TestClient(create_app(predictor)).post("/predict", files={"file": ("a.jpg", PICTURE)})
    assert problem(response, 500) == {"type": "about:blank", "title": "CheckFailed", "status": 500}
    assert f"POST /predict: {SECRET} answers NaN" in caplog.text


def test_a_bug_of_ours_answers_without_internals(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(f"bug in {SECRET}")

    monkeypatch.setattr(predictor, "predict", fail)
    client = TestClient(create_app(predictor), raise_server_exceptions=False)
    response = client.post("/predict", files={"file": ("a.jpg", PICTURE)})
    assert problem(response, 500) == {"type": "about:blank", "title": "Internal Server Error", "status": 500}


@contextmanager
def serving(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`lesion serve` in a process of its own, and its address."""
    model = str(GOLDEN / "tiny.onnx")
    command = [sys.executable, "-m", "lesion", "serve", "--port", "0", "--model", model, *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"listening on (http://[^\s,]+:\d+)", line)
            assert found, line + process.stderr.read()
            yield process, found[1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving("serve.max_upload_mb=1") as (_, url):
        yield url


@pytest.fixture
def web(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        yield client


def test_the_server_answers_the_record_of_the_command_line(web: httpx.Client, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "lesion.jpg"
    path.write_bytes(PICTURE)
    served = web.post("/predict", files={"file": ("lesion.jpg", PICTURE, "image/jpeg")}).json()
    outcome = cli("predict", path, "--json", "--model", GOLDEN / "tiny.onnx")
    assert outcome.code == 0
    (printed,) = json.loads(outcome.out)["predictions"]
    assert (served.pop("source"), printed.pop("source")) == ("lesion.jpg", str(path))
    assert served == printed
    assert list(served) == list(printed)


def test_the_server_refuses_over_the_wire(web: httpx.Client) -> None:
    problem(web.post("/predict", files={"file": ("lesion.jpg", b"text")}), 415)
    problem(web.post("/predict", files={"file": ("lesion.jpg", PICTURE[:900])}), 422)
    problem(web.post("/predict"), 422)
    problem(web.get("/predict"), 405)
    problem(web.get("/nowhere"), 404)
    assert web.get("/readyz").json()["status"] == "ready"


def test_the_server_answers_many_at_once(web: httpx.Client) -> None:
    def ask(number: int) -> Any:
        answer = web.post("/predict", files={"file": (f"{number}.jpg", PICTURE)}).json()
        return answer.pop("source"), answer

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    assert [source for source, _ in answers] == [f"{number}.jpg" for number in range(40)]
    assert all(answer == answers[0][1] for _, answer in answers)


def flood(pieces: int) -> Iterator[bytes]:
    yield form(b'name="file"; filename="a.jpg"', b"")[:-9]
    for _ in range(pieces):
        yield bytes(2**16)


def test_a_large_upload_is_refused_over_the_wire(web: httpx.Client) -> None:
    problem(web.post("/predict", files={"file": ("a.jpg", bytes(2 * 2**20))}), 413)
    chunked = web.post("/predict", content=flood(32), headers={"content-type": "multipart/form-data; boundary=x"})
    problem(chunked, 413)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_flood_does_not_fill_the_memory() -> None:
    def peak(process: subprocess.Popen[str]) -> int:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    headers = {"content-type": "multipart/form-data; boundary=x"}
    with serving("serve.max_upload_mb=1") as (process, url), httpx.Client(trust_env=False, timeout=30) as client:
        assert client.post(f"{url}/predict", files={"file": ("a.jpg", PICTURE)}).status_code == 200
        before = peak(process)
        problem(client.post(f"{url}/predict", content=flood(1024), headers=headers), 413)
        assert peak(process) - before < 16_000


def stop(process: subprocess.Popen[str], number: int) -> tuple[int, float]:
    start = time.monotonic()
    process.send_signal(number)
    return process.wait(20), time.monotonic() - start


def test_sigterm_ends_the_server_in_order() -> None:
    with serving() as (process, url), httpx.Client(trust_env=False) as client:
        assert client.get(f"{url}/livez").status_code == 200  # and keeps its connection
        code, seconds = stop(process, signal.SIGTERM)
        assert code == 0
        assert seconds < 5
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        with pytest.raises(httpx.ConnectError):
            client.get(f"{url}/livez")


def test_ctrl_c_ends_the_server_without_a_traceback() -> None:
    with serving() as (process, url):
        assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200
        code, seconds = stop(process, signal.SIGINT)
        assert code == 130
        assert seconds < 5
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_sigterm_does_not_wait_for_a_client_that_never_ends() -> None:
    with serving() as (process, url):
        host, _, port = url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))) as half:
            half.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n")
            half.sendall(b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
            assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200
            code, seconds = stop(process, signal.SIGTERM)
        assert code == 0
        assert seconds < 9.5


def test_a_port_in_use_is_told_without_a_traceback(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = cli("serve", "--port", port, "--model", GOLDEN / "tiny.onnx")
    assert outcome.code == 2
    assert f"error: cannot listen on 127.0.0.1:{port}: " in outcome.err
    assert "hint: another program may listen there; try --port 0" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_host_that_does_not_exist_is_told(cli: Cli) -> None:
    outcome = cli("serve", "--host", "256.0.0.1", "--port", 0, "--model", GOLDEN / "tiny.onnx")
    assert outcome.code == 2
    assert "error: cannot listen on 256.0.0.1:0: " in outcome.err


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with serving("--host", "::1") as (_, url):
        assert url.startswith("http://[::1]:")
        assert httpx.get(f"{url}/livez", trust_env=False).json() == {"status": "live"}
