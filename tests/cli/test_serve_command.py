"""`lesion serve` as it is typed: what it says, what it refuses, and that it answers what `lesion predict` does."""

import json
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from lesion.serve.tokens import Tokens
from tests.conftest import GOLDEN, Cli
from tests.serve.conftest import PICTURE, serving

TINY = GOLDEN / "tiny.onnx"


@pytest.mark.slow
def test_the_answer_is_that_of_predict(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "lesion.jpg"
    path.write_bytes(PICTURE)
    outcome = cli("predict", path, "--json", "--model", TINY)
    (printed,) = json.loads(outcome.out)["predictions"]
    with serving() as server:
        served = httpx.post(f"{server.url}/v1/predict", files={"file": ("lesion.jpg", PICTURE)}, trust_env=False).json()
    assert (served.pop("source"), printed.pop("source")) == ("lesion.jpg", str(path))
    assert served == printed
    assert list(served) == list(printed)


@pytest.mark.slow
def test_log_lines_are_json_when_asked_for() -> None:
    with serving("serve.log=json") as server:
        httpx.post(f"{server.url}/predict", files={"file": PICTURE}, headers={"x-request-id": "mine"}, trust_env=False)
        httpx.get(f"{server.url}/livez", trust_env=False)
        _, _, said = server.stop(signal.SIGTERM)
    (line,) = [json.loads(line) for line in said.splitlines()]
    assert (line["request"], line["route"], line["status"], line["images"]) == ("mine", "/predict", 200, 1)


def test_a_port_in_use_is_told_without_a_traceback(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = cli("serve", "--port", port, "--model", TINY)
    assert outcome.code == 2
    assert f"error: cannot listen on 127.0.0.1:{port}: " in outcome.err
    assert "hint: another program may listen there; try --port 0" in outcome.err


def test_a_host_that_does_not_exist_is_told(cli: Cli) -> None:
    outcome = cli("serve", "--host", "256.0.0.1", "--port", 0, "--model", TINY)
    assert outcome.code == 2
    assert "error: cannot listen on 256.0.0.1:0: " in outcome.err


def test_nobody_listens_to_the_world_by_mistake(cli: Cli) -> None:
    outcome = cli("serve", "--host", "0.0.0.0", "--port", 0, "--model", "no such file")
    assert outcome.code == 2
    assert "error: serve.host: on 0.0.0.0 anyone who reaches this machine could ask, and no tokens are set" in (
        outcome.err
    )
    assert "hint: set serve.tokens=FILE, or serve.open=true" in outcome.err


@pytest.mark.parametrize(
    ("word", "code", "told"),
    [
        ("serve.tokens=none", 66, "serve.tokens"),
        ("serve.certificate=none.pem", 2, "belong together"),
        ("serve.redis=redis://x", 2, "serve.rate"),
        ("serve.rate=10 serve.redis=nonsense", 2, "no URL of a Redis"),
        ("serve.max_images=50", 2, "serve.queue"),
        ("serve.queue=0", 2, "serve.queue"),
        ("serve.tokns=x", 2, "did you mean"),
    ],
)
def test_settings_that_do_not_work_are_told_at_the_start(cli: Cli, word: str, code: int, told: str) -> None:
    outcome = cli("serve", "--port", 0, "--model", TINY, *word.split())
    assert outcome.code == code
    assert told in outcome.err
    assert "Traceback" not in outcome.err


def test_a_token_is_made_and_its_line_printed(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("serve", "--new-token", "ward-3")
    assert outcome.code == 0
    found = re.search(r"token: (\S+)", outcome.err)
    assert found
    assert found[1] not in outcome.out
    path = tmp_path / "tokens"
    path.write_text(outcome.out)
    assert Tokens.read(path).check(f"Bearer {found[1]}") == "ward-3"
