"""The set of compose.yaml as processes of this machine: its own commands and files, with other addresses and paths."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from lesion.inference.predictor import draw_test_image
from tests.conftest import GOLDEN, REPO
from tests.deploy.conftest import encode
from tests.deploy.test_compose import HERE, SERVICES

pytestmark = [pytest.mark.soak, pytest.mark.skipif(sys.platform == "win32", reason="programs of Debian")]
ALERTS = [
    rule["alert"] for rule in yaml.safe_load((REPO / "deploy/monitoring/rules.yaml").read_text())["groups"][0]["rules"]
]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until(fact: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            if found := fact():
                return found
        except (httpx.HTTPError, OSError, SQLAlchemyError):
            pass
        assert time.monotonic() < end, "in vain"
        time.sleep(0.2)


@contextmanager
def started(command: list[str], log: Path, **env: str) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **env}) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


class Set:
    """The processes, and how they are reached."""

    def __init__(self, folder: Path, secrets: Path, database: URL) -> None:
        self.folder, self.database = folder, database
        self.ports = {name: free_port() for name in ("server", "redis", "prometheus")}
        self.token = (secrets / "operator").read_text()
        self.secrets = Path(shutil.copytree(secrets, folder / "secrets"))
        shutil.copytree(GOLDEN, folder / "model")
        (folder / "model" / "tiny.onnx").rename(folder / "model" / "model.onnx")
        settings = yaml.safe_load((secrets / "server.yaml").read_text())
        settings["serve"]["redis"] = settings["serve"]["redis"].replace(
            "redis:6379", f"127.0.0.1:{self.ports['redis']}"
        )
        settings["serve"]["journal"] = database.render_as_string(hide_password=False)
        (self.secrets / "server.yaml").write_text(yaml.safe_dump(settings))
        self.password = (secrets / "redis.conf").read_text().split()[1]

    def command(self, name: str, *more: str) -> list[str]:
        """The command of a service, with this machine's paths and addresses."""
        named = yaml.safe_load((REPO / "compose.yaml").read_text())["secrets"]
        places = {f"/run/secrets/{key}": str(self.folder / each["file"]) for key, each in named.items()}
        places |= {
            "/model/": f"{self.folder}/model/",
            "/etc/prometheus/": f"{self.folder}/",
            "=/prometheus": f"={self.folder}/series",
        }
        words = [str(word) for word in SERVICES[name]["command"]]
        for here, there in places.items():
            words = [word.replace(here, there) for word in words]
        return [*words, *more]

    def write_prometheus(self) -> None:
        """The files of prometheus.yml, with this machine's paths and addresses, and in a hurry."""
        content = (HERE / "prometheus.yml").read_text()
        content = content.replace("/run/secrets/operator", str(self.secrets / "operator"))
        content = content.replace("server:8080", f"127.0.0.1:{self.ports['server']}")
        content = content.replace("/etc/prometheus/", f"{self.folder}/").replace("15s", "1s").replace("30s", "1s")
        (self.folder / "prometheus.yml").write_text(content)
        shutil.copy(REPO / "deploy/monitoring/rules.yaml", self.folder / "rules.yaml")

    def url(self, name: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The answer of Prometheus."""
        answer = httpx.get(self.url("prometheus", "/api/v1/query"), params={"query": query}).raise_for_status().json()
        return list(answer["data"]["result"])


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
    secrets: Path,
    postgres: URL,
) -> Iterator[Set]:
    pytest.importorskip("redis", reason="needs the 'redis' extra")
    for program in ("redis-server", "prometheus"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    here = Set(tmp_path_factory.mktemp("set"), secrets, postgres)
    here.write_prometheus()
    folder = here.folder
    lesion = [sys.executable, "-m", "lesion", "serve"]
    with ExitStack() as stack:
        stack.enter_context(started(here.command("redis", "--port", str(here.ports["redis"])), folder / "redis.log"))
        words = here.command("server", "serve.host=127.0.0.1")
        stack.enter_context(started([*lesion, *words], folder / "server.log", PORT=str(here.ports["server"])))
        words = here.command("prometheus", f"--web.listen-address=127.0.0.1:{here.ports['prometheus']}")
        stack.enter_context(started(["prometheus", *words], folder / "prometheus.log"))
        wait_until(lambda: httpx.get(here.url("server", "/readyz")).status_code == 200)
        wait_until(lambda: httpx.get(here.url("prometheus", "/-/ready")).status_code == 200)
        yield here


def test_images_are_answered_counted_written_down_and_seen(running: Set) -> None:
    from redis import Redis, RedisError

    image = encode(draw_test_image())
    headers = {"Authorization": f"Bearer {running.token}", "Content-Type": "image/png"}
    assert httpx.post(running.url("server", "/v1/predict"), content=image).status_code == 401
    for _ in range(3):
        answer = httpx.post(running.url("server", "/v1/predict"), content=image, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text

    engine = create_engine(running.database)
    query = text("SELECT count(*), min(model), min(decision) FROM predictions")

    def rows() -> Any:
        with engine.connect() as connection:
            return connection.execute(query).one()

    wait_until(lambda: rows()[0] == 3)
    assert rows()[1:] == (answer.json()["model"], answer.json()["decision"])
    engine.dispose()

    with Redis(port=running.ports["redis"], password=running.password) as redis:
        # The limit is counted there; a key is gone as soon as its bucket is full again.
        assert redis.info("commandstats")["cmdstat_set"]["calls"] >= 1
        assert redis.keys("lesion:images:*") or redis.info("stats")["expired_keys"] >= 1
    with (
        Redis(port=running.ports["redis"]) as stranger,
        pytest.raises(RedisError, match=r"authenticate|Authentication"),
    ):
        stranger.keys()

    served = 'sum(lesion_requests_total{route="/predict", status="2xx"})'
    wait_until(lambda: [each for each in running.ask(served) if float(each["value"][1]) == 3])
    assert running.ask('up{job="lesion"}')[0]["value"][1] == "1"


def test_every_rule_is_looked_after_and_no_secret_is_told(running: Set) -> None:
    groups = httpx.get(running.url("prometheus", "/api/v1/rules")).raise_for_status().json()["data"]["groups"]
    assert [rule["name"] for rule in groups[0]["rules"]] == ALERTS

    def healthy() -> bool:
        (group,) = httpx.get(running.url("prometheus", "/api/v1/rules")).json()["data"]["groups"]
        return all(rule["health"] == "ok" for rule in group["rules"])

    wait_until(healthy, 90)
    log = (running.folder / "server.log").read_text()
    assert running.token not in log
    assert running.password not in log
    assert "Traceback" not in log
