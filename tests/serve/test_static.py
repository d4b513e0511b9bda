"""The files of the page: names that change with the content, headers, nothing that the policy would block."""

import ast
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lesion.inference.decide import UNCERTAIN
from lesion.serve.static import FOLDER
from lesion.taxonomy import DIAGNOSES
from tests.serve.conftest import App, problem

NAMES = re.compile(r'"(?:page|\.)/([a-z]+\.[0-9a-f]{12}\.(?:css|js))"')


def test_the_page_names_files_that_are_kept_for_ever(client: TestClient) -> None:
    response = client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert "default-src 'self'; img-src 'self' data: blob:;" in response.headers["content-security-policy"]
    assert 'data-max-bytes="20000"' in response.text
    names = set(NAMES.findall(response.text))
    assert sorted(name.partition(".")[0] for name in names) == ["answer", "script", "style", "words"]
    for name in names:
        file = client.get(f"/page/{name}")
        assert file.status_code == 200
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert file.headers["content-type"] in ("text/css; charset=utf-8", "text/javascript; charset=utf-8")
        assert set(NAMES.findall(file.text)) <= names
    assert 'route="/page/{name}",status="2xx"} 4.0' in client.get("/metrics").text


def test_an_unchanged_page_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/")
    again = client.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/", headers={"if-none-match": '"other"'}).content == first.content
    assert client.head("/").headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize("name", ["script.js", "index.html", "..%2fstatic.py", "script.000000000000.js"])
def test_other_names_are_not_found(client: TestClient, name: str) -> None:
    problem(client.get(f"/page/{name}"), 404)


def test_without_the_page(make_app: App) -> None:
    client = TestClient(make_app(page=False))
    problem(client.get("/"), 404)
    assert client.get("/livez").status_code == 200


def test_with_tokens_anyone_gets_the_page_and_nobody_an_answer(make_app: App, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("0" * 64)
    client = TestClient(make_app(tokens=str(tmp_path / "tokens")))
    assert client.get("/").status_code == 200
    problem(client.get("/v1/model"), 401)


def test_nothing_inline_and_nothing_from_elsewhere() -> None:
    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            names = dict(attributes)
            assert tag != "style"
            assert tag != "script" or names["src"]
            assert not any(name == "style" or name.startswith("on") for name in names)

    Reader().feed((FOLDER / "index.html").read_text())
    texts = [path.read_text() for path in FOLDER.iterdir()]
    assert sum(len(text.encode()) for text in texts) < 30_000
    for text in texts:
        assert not re.search(r"https?:|//[a-z]+\.|innerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_every_diagnosis_and_every_flag_has_words() -> None:
    source = (FOLDER.parents[1] / "models" / "checks.py").read_text()  # importing it loads torch
    flags = ast.literal_eval(source.partition("FLAGS = ")[2].partition('"""')[0])
    words = (FOLDER / "words.js").read_text()
    for code, name in DIAGNOSES.items():
        assert f'{code}: "{name}"' in words
    for flag in (UNCERTAIN, *filter(None, (each for pair in flags.values() for each in pair))):
        assert f"\n  {flag}: " in words
