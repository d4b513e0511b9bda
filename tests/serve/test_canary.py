"""A second model that answers a share of the requests, and is never in the way."""

import math
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lesion.artifact import Artifact
from lesion.config.serving import ServeConfig
from lesion.errors import ArtifactError, ConfigError, LesionError, NotFoundError
from lesion.serve.app import create_app
from lesion.serve.canary import falls_to_canary, split_canary
from lesion.serve.reload import open_models
from lesion.serve.slot import CANARY, Serving, Slot
from lesion.serve.sources import FileSource
from tests.serve.changing import (
    BAD,
    BLACK,
    answer_of,
    identity_of,
    make_moody,
    make_twin,
    place,
    running,
    wait_until,
)
from tests.serve.conftest import PICTURE, TINY, problem


def test_a_setting_is_a_model_and_a_share() -> None:
    assert split_canary("ham@staging=0.1") == ("ham@staging", 0.1)
    assert split_canary("a=b.onnx=.5") == ("a=b.onnx", 0.5)


@pytest.mark.parametrize(
    "setting", ["ham@staging", "ham=", "=0.1", "ham=0", "ham=0.0", "ham=1", "ham=1.5", "ham=-0.1", "ham=nan", "ham=10%"]
)
def test_a_setting_that_is_none_says_how(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"serve\.canary") as caught:
        split_canary(setting)
    assert "ham@staging=0.1" in caught.value.hint


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("form", ["{}", "f3b2{:028x}", "request-{:06}"])
def test_a_share_of_the_requests_falls_to_the_canary(share: float, form: str) -> None:
    n = 10_000
    falls = sum(falls_to_canary(form.format(i), share) for i in range(n))
    assert abs(falls - n * share) < 5 * math.sqrt(n * share * (1 - share))  # beyond once in 10⁶


def test_the_same_request_falls_the_same_way_and_stays_when_the_share_grows() -> None:
    ids = [str(i) for i in range(500)]
    small, large = ({each for each in ids if falls_to_canary(each, share)} for share in (0.2, 0.4))
    assert small < large
    assert small == {each for each in ids if falls_to_canary(each, 0.2)}


def open_with(canary: Path, share: str = "0.5") -> Slot:
    settings = ServeConfig(threads=1, canary=f"{canary}={share}")
    return open_models(settings, FileSource(TINY), lambda word: FileSource(Path(word)))[0]


@pytest.mark.parametrize("kind", BAD)
def test_a_server_does_not_start_with_a_broken_canary(tmp_path: Path, kind: str) -> None:
    if content := BAD[kind]():
        (tmp_path / "canary.onnx").write_bytes(content)
    with pytest.raises(NotFoundError if kind == "missing" else LesionError):
        open_with(tmp_path / "canary.onnx")


def test_a_canary_answers_in_the_live_models_classes(tmp_path: Path) -> None:
    tiny = Artifact.read(TINY)
    place(tmp_path / "canary.onnx", BAD["other classes"]())
    with pytest.raises(ArtifactError, match="the canary model 'tiny' has the classes benign, malignant") as caught:
        open_with(tmp_path / "canary.onnx")
    assert all(label in caught.value.message for label in tiny.manifest.taxonomy.labels)


@pytest.mark.soak
@pytest.mark.slow
def test_a_canary_answers_its_share_and_is_off_while_it_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "canary.onnx"
    place(path, make_twin())
    live, canary = identity_of(TINY.read_bytes()), identity_of(make_twin())
    ids = [f"request-{i}" for i in range(60)]
    with running(tmp_path / "log", TINY, "--canary", f"{path}=0.3") as server:
        answers = {request: server.ask(request) for request in ids}
        for request, answer in answers.items():
            assert answer["model"] == (canary if falls_to_canary(request, 0.3) else live)
        assert {answer["model"] for answer in answers.values()} == {live, canary}
        share = sum(falls_to_canary(request, 0.3) for request in ids)
        assert server.predictions("canary") == share
        mine = next(request for request in ids if falls_to_canary(request, 0.3))
        assert answers[mine]["class_probabilities"] == answer_of(make_twin()).class_probabilities
        place(path, BAD["one bit flipped"]())
        wait_until(lambda: server.lines("there is no canary any more"))
        assert server.ask(mine)["model"] == live
        assert server.metric(f'lesion_model_info{{model="{canary}",role="canary"}}') == 0
        place(path, make_twin(4))
        wait_until(lambda: server.ask(mine)["model"] == identity_of(make_twin(4)))
        assert (server.reloads("refused"), server.reloads("done")) == (1, 1)
        assert server.model == live


def test_where_the_canary_has_no_answer_the_live_model_stands_in(
    tiny_serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    moody = Serving.start(Artifact.unpack(make_moody()), ServeConfig(threads=1), CANARY)
    caplog.set_level("WARNING", "lesion.serve.predictions")
    with TestClient(create_app(Slot(tiny_serving, moody, share=0.999999), ServeConfig())) as client:
        headers = {"content-type": "image/png"}
        assert client.post("/v1/predict", content=PICTURE, headers=headers).json()["model"] == moody.identity
        answer = client.post("/v1/predict", content=BLACK, headers=headers).json()
        text = client.get("/metrics").text
        refused = client.post("/v1/predict", content=b"no image", headers=headers)
    assert answer["model"] == tiny_serving.identity
    assert answer["class_probabilities"] == tiny_serving.wide.predict(BLACK).class_probabilities
    assert 'lesion_model_failures_total{role="canary"} 1.0' in text
    (line,) = caplog.messages
    assert f"the canary {moody.identity} has no answer" in line
    assert problem(refused, 415)["code"] == "not_an_image"
