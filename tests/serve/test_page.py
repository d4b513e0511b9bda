"""The page in a real browser: an answer, its heat map, refusals, hostile names, the token, and no request elsewhere."""

import hashlib
import json
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lesion.artifact import Artifact
from tests.browser import CHROMIUM, Browser, open_browser
from tests.conftest import PATIENCE_S
from tests.serve.changing import seal
from tests.serve.conftest import PICTURE, TINY, Served, encode, serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]
BLACK = encode(Image.new("RGB", (64, 64)))
NAME = "<img src=x onerror=alert(1)>.png"
FACTS = {
    "data": "HAM10000",
    "operating_point": "sensitivity >= 0.95 on validation",
    "validation": {"sensitivity": 0.952, "specificity": 0.654},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    tiny = Artifact.read(TINY)
    model = tmp_path_factory.mktemp("model") / "model.onnx"
    model.write_bytes(seal(tiny.graph, replace(tiny.manifest, provenance=FACTS)))
    with serving("serve.max_upload_mb=0.5", model=model) as served:
        yield served


def visit(browser: Browser, url: str, width: int = 1280, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.complaints.clear()
    browser.requests.clear()
    browser.call("Page.navigate", url=url)
    wait_for(browser, "document.readyState === 'complete'")


def wait_for(browser: Browser, condition: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not browser.evaluate(condition):
        assert time.monotonic() < end, f"{condition}: {browser.evaluate('document.body.innerText')}"
        time.sleep(0.05)


def drop(browser: Browser, **files: bytes) -> str:
    """Drop files on the page; what its cards say once all are finished."""
    pairs = json.dumps([[name, b64encode(content).decode()] for name, content in files.items()])
    browser.evaluate(
        f"""(() => {{
          const transfer = new DataTransfer();
          for (const [name, content] of {pairs})
            transfer.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
          document.dispatchEvent(new DragEvent("drop", {{dataTransfer: transfer, cancelable: true}}));
        }})()"""
    )
    wait_for(browser, "!document.querySelector('article[aria-busy=true]')")
    return read(browser, "#cards")


def read(browser: Browser, selector: str) -> str:
    return str(browser.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")).replace("\xa0", " ")


def outside(browser: Browser, url: str) -> list[str]:
    return [each for each in browser.requests if not each.startswith((f"{url}/", "data:", f"blob:{url}/"))]


def test_an_image_its_answer_and_its_heat_map(browser: Browser, server: Served) -> None:
    visit(browser, server.url)
    assert "Research use only. Not a medical device." in read(browser, ".notice")
    said = drop(browser, **{"lesion.jpg": PICTURE})
    assert "Read as benign\nlesion.jpg" in said
    assert "Probability of malignant: 11 %. This is below the operating point, 40 %." in said
    assert "chosen for a sensitivity of at least 95 % on validation" in said
    assert "about 65 of 100 benign ones as benign (specificity 65.4 %)" in said
    assert "vascular lesion\nvasc, benign" in said
    assert "lesion.jpg: Read as benign." in read(browser, "#live")
    heat = "document.querySelector('.heat').getClientRects().length"
    assert browser.evaluate(heat) == 0
    browser.evaluate("document.querySelector('.switch').click()")
    assert browser.evaluate(heat) == 1
    assert "not why" in read(browser, "figcaption")
    assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert "HAM10000" in str(browser.evaluate("document.getElementById('facts').textContent"))
    assert browser.complaints == []
    assert outside(browser, server.url) == []
    assert not browser.evaluate("sessionStorage.length + localStorage.length + document.cookie.length")
    browser.evaluate("document.getElementById('clear').click()")
    assert browser.evaluate("document.querySelectorAll('article').length") == 0


def test_refusals_in_words_and_names_that_are_no_html(browser: Browser, server: Served) -> None:
    visit(browser, server.url)
    said = drop(browser, **{NAME: BLACK, "notes.txt": b"hello", "large.png": bytes(2**20)})
    assert f"Refer: a person should look\n{NAME}" in said
    assert "Too dark. Take it again with more light." in said
    assert "Probability" not in said, "folded away"
    browser.evaluate("document.querySelector('.card summary').click()")
    assert "By itself, the model would say" in read(browser, "#cards")
    assert "This is not a JPEG or PNG image.\nnotes.txt" in said
    assert "This image is too large.\nlarge.png" in said
    assert "It has 1 MiB, at most 0.5 MiB are taken." in said
    assert browser.evaluate("document.querySelectorAll('.card.bare').length") == 2
    assert sum("/v1/predict" in each for each in browser.requests) == 2, "too large: not sent"
    assert all("415" in each for each in browser.complaints), browser.complaints


def test_too_many_images_wait_for_their_turn(browser: Browser) -> None:
    with serving("serve.rate=10", "serve.burst=1") as server:
        visit(browser, server.url)
        said = drop(browser, **{"one.jpg": PICTURE, "two.jpg": PICTURE})
    assert said.count("Read as benign") == 2
    assert any("429" in each for each in browser.complaints)


def test_the_token_is_entered_once(browser: Browser, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{hashlib.sha256(b'secret').hexdigest()} ward-3\n")
    shown = "document.getElementById('access')?.hidden === false"

    def enter(token: str) -> None:
        browser.evaluate(f"document.getElementById('token').value = {json.dumps(token)}")
        browser.evaluate("document.querySelector('#access button').click()")

    with serving(f"serve.tokens={tokens}") as server:
        visit(browser, server.url)
        wait_for(browser, shown)
        assert browser.evaluate("document.activeElement.id") == "token"
        enter("wrong")
        wait_for(browser, "document.getElementById('access-error').textContent")
        assert "not known" in read(browser, "#access-error")
        enter("secret")
        wait_for(browser, "!document.getElementById('forget').hidden")
        assert "Read as benign" in drop(browser, **{"lesion.jpg": PICTURE})
        visit(browser, server.url)
        assert "Read as benign" in drop(browser, **{"lesion.jpg": PICTURE})
        assert not browser.evaluate(shown)
        assert browser.complaints == []
        assert outside(browser, server.url) == []
        browser.evaluate("document.getElementById('forget').click()")
        wait_for(browser, shown)
    assert not browser.evaluate("sessionStorage.length")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (768, "light")])
def test_it_fits(browser: Browser, server: Served, width: int, scheme: str) -> None:
    visit(browser, server.url, width, scheme)
    drop(browser, **{"a" * 200 + ".jpg": PICTURE, "black.png": BLACK})
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.evaluate("innerWidth") == width
    unnamed = "[...document.querySelectorAll('button, input:not([hidden]), img')].filter(e => !(e.alt || e.innerText ||"
    assert browser.evaluate(f"{unnamed} e.hidden || e.labels?.length)).map(e => e.outerHTML)") == []
