"""Several processes behind one address."""

import re
import signal
import time
from contextlib import suppress

import httpx
import psutil
import pytest

from tests.conftest import GOLDEN, PATIENCE_S, Cli
from tests.serve.conftest import PICTURE, Served, serving

pytestmark = [pytest.mark.slow, pytest.mark.soak]


def workers(served: Served) -> list[psutil.Process]:
    """The processes that answer; the other child looks after what is shared."""
    found = []
    for child in psutil.Process(served.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it ended meanwhile
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child)
    return found


def ask(served: Served) -> int:
    """A request over a connection of its own, which either worker may take."""
    return httpx.post(
        f"{served.url}/v1/predict", files={"file": PICTURE}, trust_env=False, timeout=PATIENCE_S
    ).status_code


def test_workers_share_the_work_and_its_metrics_and_replace_each_other() -> None:
    with serving("serve.workers=2", "serve.threads=1") as served:
        crew = workers(served)
        assert len(crew) == 2
        assert [ask(served) for _ in range(20)] == [200] * 20
        text = httpx.get(f"{served.url}/metrics", trust_env=False).text
        found = re.search(r'lesion_requests_total{.*route="/predict",status="2xx"} (\S+)', text)
        assert found
        assert float(found[1]) == 20
        crew[0].kill()
        end = time.monotonic() + PATIENCE_S
        while {child.pid for child in workers(served)} == {child.pid for child in crew} or len(workers(served)) < 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert [ask(served) for _ in range(5)] == [200] * 5
        crew = workers(served)
        code, seconds, said = served.stop(signal.SIGTERM)
        assert code == 0
        assert seconds < PATIENCE_S
        assert "ended with exit code -9, another one starts" in said
        assert "Traceback" not in said
        assert not [child for child in crew if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_workers_end_with_ctrl_c_and_with_their_parent() -> None:
    with serving("serve.workers=2") as served:
        code, _, said = served.stop(signal.SIGINT)
        assert code == 130
        assert "Traceback" not in said
    with serving("serve.workers=2") as served:
        crew = workers(served)
        served.process.kill()
        assert psutil.wait_procs(crew, PATIENCE_S)[1] == []


def test_what_keeps_workers_from_starting_is_told_once(cli: Cli) -> None:
    outcome = cli("serve", "serve.workers=2", "--port", 0, "--model", GOLDEN / "none.onnx")
    assert outcome.code == 66
    assert "error: no such model" in outcome.err
    assert "Traceback" not in outcome.err
