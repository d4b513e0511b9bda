"""Bodies of every kind: limits that hold whatever the client says, and forms that are none."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lesion.errors import ImageTooLarge, LesionError, Overloaded
from lesion.serve.problems import Refused
from lesion.serve.uploads import OTHER_PARTS, TOGETHER, Intake, Upload
from tests.serve.conftest import FORM, PICTURE, App, form, problem

LIMIT = 20_000
HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'


def take(
    body: bytes, kind: str = FORM["content-type"], most: int = 1, piece: int = 7, length: str = ""
) -> list[Upload]:
    """What an Intake of LIMIT bytes finds in a body that comes in pieces."""

    async def run() -> list[Upload]:
        pieces = [body[i : i + piece] for i in range(0, len(body), piece)] or [b""]
        messages = iter(
            {"type": "http.request", "body": part, "more_body": i + 1 < len(pieces)} for i, part in enumerate(pieces)
        )

        async def receive() -> Any:
            return next(messages)

        async with Intake(LIMIT).receive(kind, length, receive, most) as uploads:
            return uploads

    return asyncio.run(run())


def refusal(error: type[LesionError], *words: Any, **more: Any) -> LesionError:
    with pytest.raises(error) as caught:
        take(*words, **more)
    return caught.value


@pytest.mark.parametrize("piece", [1, 7, 100, 10**6])
def test_a_form_may_come_in_any_pieces(piece: int) -> None:
    other = b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    body = other + HEAD + PICTURE + b"\r\n" + HEAD + b"\r\n--not the end\r\n--x--\r\n"
    assert take(body, most=2, piece=piece) == [Upload("a.jpg", PICTURE), Upload("a.jpg", b"\r\n--not the end")]


def test_an_image_alone_is_taken_as_it_is() -> None:
    assert take(PICTURE, "image/jpeg") == [Upload("upload", PICTURE)]
    assert take(b"", "image/png") == [Upload("upload", b"")]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "application/x-www-form-urlencoded", "imäge/x"])
def test_another_type_is_told_how_to_send(kind: str) -> None:
    error = refusal(Refused, b"x", kind)
    assert error.http_status == 415
    assert "multipart field `file`" in error.hint


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"junk"),
        ("multipart/form-data; boundary=", b"junk"),
        ("multipart/form-data; boundary=x", b"junk"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", HEAD + PICTURE),
        ("multipart/form-data; boundary=x", b"--x\r\nno colon\r\n\r\n--x--\r\n"),
        ("multipart/form-data; boundary=" + "x" * 300, b"junk"),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 9 + b"\r\n\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nA: " + b"b" * 5000 + b"\r\n\r\n\r\n--x--\r\n"),
    ],
    ids=["no boundary", "empty", "another", "nothing", "cut off", "header", "long boundary", "headers", "long header"],
)
def test_a_malformed_form_is_a_bad_request(kind: str, body: bytes) -> None:
    error = refusal(Refused, body, kind, piece=100)
    assert (error.http_status, error.code) == (400, "malformed_form")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body",
    [
        b"--x--\r\n",
        form(b'name="image"; filename="a.jpg"', PICTURE),
        form(b'name="file"', b"lesion.jpg"),
        form(b'filename="file"', PICTURE),
        b"--x\r\nX-Other: 1\r\n\r\nhello\r\n--x--\r\n",
    ],
    ids=["empty", "another field", "a text", "no name", "no disposition"],
)
def test_a_form_without_the_field_is_told_which(body: bytes) -> None:
    error = refusal(Refused, body)
    assert (error.http_status, error.code) == (422, "no_image")  # type: ignore[attr-defined]
    assert "`file`" in error.message


def test_parts_are_counted() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="n"\r\n\r\n1\r\n'
    assert take(part * OTHER_PARTS + HEAD + b"\r\n--x--\r\n")
    error = refusal(Refused, part * 100 + HEAD + b"\r\n--x--\r\n")
    assert (error.http_status, error.code) == (413, "too_many_parts")  # type: ignore[attr-defined]


@pytest.mark.parametrize(("header", "name"), [
    (b'name="file"; filename="quo\\"te.jpg"', 'quo"te.jpg'),
    (b'name="file"; filename=""', "upload"),
    ('name="file"; filename="läsion 🔬.jpg"'.encode(), "läsion 🔬.jpg"),
    (b'name="file"; filename="\xff\xfe.jpg"', "��.jpg"),
    (b'name="file"; filename="' + b"n" * 300 + b'"', "n" * 255),
    (b'NAME=file; FileName=a.jpg', "a.jpg"),
])  # fmt: skip
def test_the_file_name_is_kept(header: bytes, name: str) -> None:
    assert take(form(header, PICTURE)) == [Upload(name, PICTURE)]


def test_a_body_at_the_limit_is_taken() -> None:
    body = HEAD + bytes(LIMIT - len(HEAD) - 9) + b"\r\n--x--\r\n"
    assert len(body) == LIMIT
    assert take(body, piece=1000)
    refusal(ImageTooLarge, HEAD + bytes(LIMIT - len(HEAD) - 8) + b"\r\n--x--\r\n", piece=1000)


async def endless(read: list[int], piece: int) -> AsyncIterator[dict[str, Any]]:
    yield {"type": "http.request", "body": HEAD, "more_body": True}
    while True:
        read[0] += piece
        assert read[0] < 10 * LIMIT, "reads on and on"
        yield {"type": "http.request", "body": bytes(piece), "more_body": True}


@pytest.mark.parametrize("length", ["", "10", "-1", "abc", "٣", "0" * 5000], ids=["no", "lie", "minus", "x", "٣", "00"])
@pytest.mark.parametrize("kind", [FORM["content-type"], "image/jpeg"])
def test_of_an_endless_body_hardly_more_than_the_limit_is_read(kind: str, length: str) -> None:
    async def run() -> int:
        read, intake = [0], Intake(LIMIT)
        messages = endless(read, 1000)
        with pytest.raises(ImageTooLarge):
            async with intake.receive(kind, length, messages.__anext__, 1):
                pass
        assert intake._held == 0
        return read[0]

    assert LIMIT <= asyncio.run(run()) <= LIMIT + 1000


def test_a_request_that_says_itself_that_it_is_too_large_is_not_read() -> None:
    async def never() -> Any:
        raise AssertionError

    async def run() -> None:
        async with Intake(LIMIT).receive("image/jpeg", "9" * 30, never, 1):
            pass

    with pytest.raises(ImageTooLarge):
        asyncio.run(run())


def test_all_bodies_together_have_a_limit() -> None:
    async def run() -> None:
        intake = Intake(LIMIT)
        waiting = asyncio.Event()

        async def hold() -> None:
            async def receive() -> Any:
                return {"type": "http.request", "body": bytes(LIMIT), "more_body": False}

            async with intake.receive("image/jpeg", "", receive, 1):
                await waiting.wait()

        holders = [asyncio.create_task(hold()) for _ in range(TOGETHER)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await hold()
        waiting.set()
        await asyncio.gather(*holders)
        await hold()

    asyncio.run(run())


def test_a_large_request_is_refused_over_http(client: TestClient) -> None:
    body = problem(client.post("/predict", files={"file": ("a.jpg", bytes(LIMIT))}), 413)
    assert body["code"] == "image_too_large"
    assert body["detail"] == "the request has more than 0.0191 MiB"


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>.jpg", 'quo"te.jpg', "läsion 🔬.jpg", "line\nfeed\r.jpg", "../../etc/passwd"]
)
def test_a_file_name_comes_back_as_nothing_but_a_json_string(client: TestClient, name: str) -> None:
    response = client.post("/predict", files={"file": (name, PICTURE)})
    assert response.status_code == 200
    assert "\n" not in response.text
    # A client has to send quotes and line ends in a file name as %22, %0A and %0D; they stay so.
    assert json.loads(response.content)["source"] == (
        name.replace('"', "%22").replace("\n", "%0A").replace("\r", "%0D")
    )


def test_too_many_headers_are_refused(make_app: App) -> None:
    response = TestClient(make_app()).get("/livez", headers={f"x-{i}": "1" for i in range(120)})
    assert problem(response, 431)["code"] == "too_many_headers"
