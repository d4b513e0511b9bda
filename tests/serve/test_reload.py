"""Models that change while clients ask: no request fails, each answer is one model's, a bad model changes nothing."""

import errno
import logging
import os
import sqlite3
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lesion.config.serving import ServeConfig
from lesion.errors import ArtifactError, CheckFailed, NotFoundError, RemoteError, StoreError
from lesion.inference.watchdog import Watchdog
from lesion.serve import sources
from lesion.serve.reload import LIMIT_S, Reloader, open_models
from lesion.serve.slot import Slot
from lesion.serve.sources import DepotSource, FileSource, RegistrySource
from lesion.tracking.registry import Registry
from tests.conftest import PATIENCE_S
from tests.serve.changing import (
    BAD,
    Running,
    answer_of,
    identity_of,
    make_twin,
    place,
    running,
    wait_until,
)
from tests.serve.conftest import PICTURE, TINY

if TYPE_CHECKING:
    from tests.bucket import Bucket

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGHUP")


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line, run by other tests, keeps the log of lesion to itself."""
    monkeypatch.setattr(logging.getLogger("lesion"), "propagate", True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The file that the server reads."""
    path = tmp_path / "model.onnx"
    place(path, TINY.read_bytes())
    return path


@dataclass
class Changing:
    """A reloader without its thread, and what it counted."""

    slot: Slot
    reloader: Reloader
    counted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reloader._count = self.counted.append

    def look(self, asked: bool = False) -> None:
        for watch in self.reloader._watches:
            watch.next_try = 0.0  # whatever the pause after a failure is
            self.reloader._look(watch, asked)


@pytest.fixture
def changing(model: Path) -> Changing:
    return Changing(*open_models(ServeConfig(threads=1), FileSource(model), lambda word: FileSource(Path(word))))


def test_a_replaced_file_is_taken_once(changing: Changing, model: Path) -> None:
    changing.look()
    assert changing.counted == []
    before = changing.slot.pick()
    place(model, make_twin())
    changing.look()
    changing.look()
    assert changing.counted == ["done"]
    assert before is not changing.slot.pick()
    assert changing.slot.pick().identity == identity_of(make_twin())
    assert before.wide.predict(PICTURE, "upload") == answer_of(TINY.read_bytes())  # for whoever still uses it


def test_the_same_content_again_is_no_change(changing: Changing, model: Path) -> None:
    before = changing.slot.pick()
    place(model, TINY.read_bytes())
    changing.look()
    changing.look(asked=True)
    assert changing.counted == []
    assert changing.slot.pick() is before


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_model_changes_nothing_and_is_tried_once(
    changing: Changing, model: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = changing.slot.pick()
    place(model, BAD[kind]())
    caplog.set_level("INFO", "lesion.serve.reload")
    changing.look()
    changing.look()
    assert changing.counted == ["refused"]
    assert changing.slot.pick() is before
    (line,) = caplog.messages
    assert line.startswith(f"another model was refused, {before.identity} answers on: ")
    changing.look(asked=True)  # who asks is answered again
    assert changing.counted == ["refused"] * 2
    place(model, make_twin())
    changing.look()
    assert changing.counted == ["refused", "refused", "done"]
    assert changing.slot.pick().identity == identity_of(make_twin())


class Failing:
    """A source that fails at one of its two steps as often as there are errors."""

    def __init__(self, path: Path, step: str, *errors: Exception) -> None:
        self._inner, self._step, self._errors = FileSource(path), step, list(errors)

    def _do(self, step: str) -> Any:
        if step == self._step and self._errors:
            raise self._errors.pop(0)
        return getattr(self._inner, step)()

    def look(self) -> Any:
        return self._do("look")

    def read(self) -> Any:
        return self._do("read")


def wrap(error: OSError) -> ArtifactError:
    wrapped = ArtifactError("cannot read model.onnx")
    wrapped.__cause__ = error
    return wrapped


PASSING = [
    wrap(PermissionError(errno.EACCES, "Permission denied")),
    wrap(OSError(errno.EMFILE, "Too many open files")),
    wrap(OSError(errno.EIO, "Input/output error")),
    wrap(OSError(errno.ESTALE, "Stale file handle")),
    wrap(FileNotFoundError(errno.ENOENT, "No such file")),  # moved away and back
    OSError(errno.EAGAIN, "no process for the trial"),
    RemoteError("the store does not answer"),
    StoreError("the store is damaged"),
    ValueError("nobody foresaw this"),
    MemoryError(),
]


@pytest.mark.parametrize("step", ["look", "read"])
@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_an_error_that_passes_delays_a_model_and_is_said_once(
    changing: Changing, model: Path, step: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    before = changing.slot.pick()
    (watch,) = changing.reloader._watches
    watch.source = Failing(model, step, error, error)
    place(model, make_twin())
    caplog.set_level("INFO", "lesion.serve.reload")
    changing.look()
    changing.look()
    assert changing.counted == ["failed", "failed"]
    assert changing.slot.pick() is before
    (line,) = caplog.messages
    assert line.startswith("the live model stays, another one cannot be had now: ")
    changing.look()
    assert changing.counted == ["failed", "failed", "done"]
    assert changing.slot.pick().identity == identity_of(make_twin())
    assert caplog.messages[-1] == "the source of the live model can be read again"


def test_pauses_after_errors_grow_up_to_a_minute_and_who_asks_does_not_wait(changing: Changing, model: Path) -> None:
    (watch,) = changing.reloader._watches
    watch.source = Failing(model, "look", *[OSError(errno.EIO, "")] * 10)
    pauses = []
    for _ in range(8):
        changing.look()
        pauses.append(watch.pause_s)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    assert changing.reloader._pause() == 2.0  # for the other sources
    failures = len(changing.counted)
    changing.reloader._look(watch, False)  # too early
    assert len(changing.counted) == failures
    changing.reloader._look(watch, True)
    assert len(changing.counted) == failures + 1


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes with names")
def test_a_pipe_in_the_place_of_the_model_stops_nothing(changing: Changing, model: Path) -> None:
    model.unlink()
    os.mkfifo(model)
    changing.look()
    assert changing.counted == ["refused"]
    model.unlink()
    place(model, make_twin())
    changing.look()
    assert changing.counted == ["refused", "done"]


def test_a_canary_stays_when_its_file_cannot_be_read_for_a_moment(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "shadow.onnx"
    place(path, make_twin())
    settings = ServeConfig(threads=1, shadow=str(path))
    changing = Changing(*open_models(settings, FileSource(model), lambda word: FileSource(Path(word))))
    watch = changing.reloader._watches[1]
    watch.source = Failing(path, "read", wrap(OSError(errno.EMFILE, "")))
    place(path, make_twin(4))
    changing.look()
    assert changing.slot.find("shadow") is not None
    changing.look()
    assert changing.counted == ["failed", "done"]


def test_many_requests_to_look_are_one_look(changing: Changing) -> None:
    looks: list[bool] = []
    changing.reloader._look = lambda watch, asked: looks.append(asked) is None  # type: ignore[method-assign]
    for _ in range(1000):
        changing.reloader.ask()
    changing.reloader.start(changing.counted.append, Watchdog())
    wait_until(lambda: True in looks)
    changing.reloader.close()
    assert changing.reloader.join(PATIENCE_S)
    assert looks.count(True) == 1


def test_another_thread_takes_over_from_a_look_that_hangs(changing: Changing, model: Path) -> None:
    release, hangs = threading.Event(), threading.Event()
    (watch,) = changing.reloader._watches
    stamp, really = FileSource(model).look(), watch.source

    class Hanging:
        def look(self) -> Any:
            hangs.set()
            release.wait(PATIENCE_S)
            return stamp, "other"

        def read(self) -> Any:
            return really.read()

    given_up: list[str] = []
    watchdog = Watchdog(given_up.append)
    watch.source = Hanging()
    changing.reloader.start(changing.counted.append, watchdog)
    assert hangs.wait(PATIENCE_S)
    place(model, make_twin())
    watch.source = really
    watchdog.look(LIMIT_S + 1)
    wait_until(lambda: changing.slot.pick().identity == identity_of(make_twin()))
    assert given_up == ["reload"]
    place(model, TINY.read_bytes())
    changing.reloader.close()
    release.set()  # the one that hung comes back, and changes nothing
    assert changing.reloader.join(PATIENCE_S)
    assert changing.counted == ["done"]
    watchdog.close()


def test_a_file_that_is_written_in_place_is_taken_when_it_is_whole(changing: Changing, model: Path) -> None:
    before, content = changing.slot.pick(), make_twin()
    with model.open("wb") as file:
        for start in range(0, len(content), 300):
            file.write(content[start : start + 300])
            file.flush()
            if start + 300 < len(content):
                changing.look()
                assert changing.slot.pick() is before
    changing.look()
    assert changing.slot.pick().identity == identity_of(content)


def test_a_link_to_another_file_is_another_model(model: Path, tmp_path: Path) -> None:
    link, other = tmp_path / "current.onnx", tmp_path / "other.onnx"
    link.symlink_to(model)
    changing = Changing(*open_models(ServeConfig(threads=1), FileSource(link), lambda word: FileSource(Path(word))))
    place(other, make_twin())
    (tmp_path / "next").symlink_to(other)
    (tmp_path / "next").replace(link)
    changing.look()
    assert changing.slot.pick().identity == identity_of(make_twin())


def test_another_size_of_pixels_is_another_model(
    changing: Changing, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    from tests.golden import make

    monkeypatch.setattr(make, "SIZE", 24)
    place(model, make.make_artifact())
    changing.look()
    assert changing.counted == ["done"]
    assert changing.slot.pick().manifest.preprocess.size == 24


@pytest.mark.parametrize(
    ("kind", "error"),
    [("one bit flipped", ArtifactError), ("fails its self-test", CheckFailed), ("missing", NotFoundError)],
)
def test_a_server_does_not_start_with_a_bad_model(model: Path, kind: str, error: type[Exception]) -> None:
    place(model, BAD[kind]())
    with pytest.raises(error):
        open_models(ServeConfig(threads=1), FileSource(model), lambda word: FileSource(Path(word)))


@pytest.fixture
def depot_source(bucket: "type[Bucket]", monkeypatch: pytest.MonkeyPatch) -> DepotSource:
    """A model in an object store, which is asked at each look."""
    monkeypatch.setattr(sources, "EVERY_S", 0.0)
    return DepotSource("memory://bucket/model.onnx")


def test_a_model_in_a_store_is_exchanged_and_outlives_the_store(
    bucket: "type[Bucket]", depot_source: DepotSource
) -> None:
    changing = Changing(*open_models(ServeConfig(threads=1), depot_source, lambda _: depot_source))
    bucket.put(make_twin())
    changing.look()
    assert changing.slot.pick().identity == identity_of(make_twin())
    bucket.away = True
    for _ in range(3):
        changing.look()
    bucket.away = False
    changing.look()  # there again, with the same model
    bucket.put(b"no model")
    changing.look()
    assert changing.slot.pick().identity == identity_of(make_twin())
    assert changing.counted == ["done", *["failed"] * 3, "refused"]


def test_a_server_starts_with_the_copy_while_the_store_is_away(
    bucket: "type[Bucket]", depot_source: DepotSource
) -> None:
    bucket.away = True
    with pytest.raises(RemoteError):
        open_models(ServeConfig(threads=1), depot_source, lambda _: depot_source)
    bucket.away = False
    depot_source.read()
    bucket.away = True
    changing = Changing(*open_models(ServeConfig(threads=1), depot_source, lambda _: depot_source))
    assert changing.slot.pick().identity == identity_of(TINY.read_bytes())
    bucket.away = False
    bucket.put(make_twin())
    changing.look()
    assert changing.slot.pick().identity == identity_of(make_twin())


def test_a_store_is_asked_now_and_then(bucket: "type[Bucket]") -> None:
    source = DepotSource("memory://bucket/model.onnx")
    first = source.look()
    bucket.put(make_twin())
    assert source.look() == first
    source._next = 0.0
    assert source.look() != first
    bucket.away = True
    source._next = 0.0
    for _ in range(2):
        with pytest.raises(RemoteError):
            source.look()
    assert DepotSource(f"memory://bucket/model.onnx#sha256={'0' * 64}").look() == "0" * 64


def test_the_thread_ends_when_closed(changing: Changing) -> None:
    changing.reloader.start(changing.counted.append, Watchdog())
    (thread,) = (each for each in threading.enumerate() if each.name == "reload")
    changing.reloader.ask()
    changing.reloader.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@dataclass
class Asker(threading.Thread):
    """A client that asks without end, and what it was told."""

    url: str
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=PATIENCE_S) as client:
            while not self.enough.is_set():
                response = client.post("/v1/predict", content=PICTURE, headers={"content-type": "image/jpeg"})
                self.answers.append((response.status_code, response.json()))
                time.sleep(0.02)  # the processors are for the server


def is_settled(server: Running, model: str, refused: int) -> bool:
    return server.reloads("refused") == refused and server.model == model


@posix
@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_request_fails_while_models_change(model: Path, tmp_path: Path, full: bool) -> None:
    """By replaced files and by SIGHUP, with every fourth file a bad one."""
    reloads = 100 if full else 20
    twins = {identity_of(content): content for content in (TINY.read_bytes(), make_twin())}
    expected = {name: answer_of(content).class_probabilities for name, content in twins.items()}
    others, bad = cycle([*twins][::-1]), cycle(BAD.values())
    with running(tmp_path / "log", model) as server:
        askers = [Asker(str(server.client.base_url)) for _ in range(4)]
        for asker in askers:
            asker.start()
        refused = 0
        for number in range(1, reloads + 1):
            is_bad = number % 4 == 0
            wanted = server.model if is_bad else next(others)
            place(model, next(bad)() if is_bad else twins[wanted])
            if number % 2:
                server.hang_up()
            refused += is_bad
            wait_until(partial(is_settled, server, wanted, refused))
        for asker in askers:
            asker.enough.set()
            asker.join(PATIENCE_S)
        assert server.reloads("done") == reloads - refused
        assert len(server.lines("another model was refused")) == refused == reloads // 4
    answers = [answer for asker in askers for answer in asker.answers]
    assert {status for status, _ in answers} == {200}
    assert {answer["model"] for _, answer in answers} == set(twins)
    assert all(answer["class_probabilities"] == expected[answer["model"]] for _, answer in answers)


@posix
@pytest.mark.soak
@pytest.mark.slow
def test_every_worker_takes_the_model(model: Path, tmp_path: Path) -> None:
    with running(tmp_path / "log", model, "serve.workers=2", watch_s=0) as server:
        assert server.model == identity_of(TINY.read_bytes())
        place(model, make_twin())
        server.hang_up()
        wait_until(lambda: server.reloads("done") == 2)
        for _ in range(8):
            answer = httpx.get(f"{server.client.base_url}/readyz", timeout=PATIENCE_S)  # over a new connection
            assert answer.json()["model"] == identity_of(make_twin())


@pytest.mark.soak
@pytest.mark.slow
def test_an_alias_that_moves_changes_the_model(tmp_path: Path) -> None:
    runs, twin = tmp_path / "runs", tmp_path / "twin.onnx"
    twin.write_bytes(make_twin())
    with Registry.open(None, runs, "create") as registry:
        registry.register(TINY, "ham")
        registry.register(twin, "ham")
        registry.promote("ham", "1", "production")
        with running(tmp_path / "log", "ham@production", "--runs", str(runs)) as server:
            assert server.model == identity_of(TINY.read_bytes())
            kept = registry.folder / f"{registry.find('ham@2').sha256}.onnx"
            registry.promote("ham", "2", "production", force=True)
            wait_until(lambda: server.model == identity_of(make_twin()))
            place(kept, None)
            wait_until(lambda: server.reloads("refused") == 1)
            assert server.ask()["model"] == identity_of(make_twin())
            (runs / "runs.db").rename(runs / "away.db")
            wait_until(lambda: server.lines("another one cannot be had now"))
            assert server.ask()["model"] == identity_of(make_twin())
            (runs / "away.db").rename(runs / "runs.db")
            place(kept, twin.read_bytes())
            registry.promote("ham", "1", "production", force=True)
            wait_until(lambda: server.model == identity_of(TINY.read_bytes()))
    assert len(server.lines("another one cannot be had now")) == 1


@pytest.mark.parametrize("damage", ["lineage = '{not json'", "lineage = '[1]'"])
def test_a_damaged_row_of_the_registry_delays_a_model(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    runs, twin = tmp_path / "runs", tmp_path / "twin.onnx"
    twin.write_bytes(make_twin())
    with Registry.open(None, runs, "create") as registry:
        for path in (TINY, twin):
            registry.register(path, "ham")
        registry.promote("ham", "1", "production")
        source = RegistrySource("ham@production", None, runs)
        changing = Changing(*open_models(ServeConfig(threads=1), source, lambda _: source))
        registry.promote("ham", "2", "production", force=True)
        with closing(sqlite3.connect(runs / "runs.db")) as database:
            whole = database.execute("SELECT version, lineage FROM model_versions").fetchall()
            database.execute(f"UPDATE model_versions SET {damage}")
            database.execute("UPDATE model_aliases SET alias = 'newer' WHERE version = 1")
            database.commit()
            changing.look()
            assert changing.counted == ["failed"]
            assert "the row of model_versions with name 'ham', version 2 is malformed" in caplog.text
            database.executemany(
                "UPDATE model_versions SET lineage = ? WHERE version = ?", [row[::-1] for row in whole]
            )
            database.commit()
    changing.look()
    assert changing.counted == ["failed", "done"]


def test_a_look_at_the_registry_is_one_query_however_many_versions_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    with Registry.open(None, runs, "create") as registry:
        registry.register(TINY, "ham")
        registry.promote("ham", "1", "production")
        source, digest = RegistrySource("ham@production", None, runs), registry.find("ham@1").sha256
        first = source.look()
        opened = monkeypatch.setattr(Registry, "open", lambda *_: pytest.fail("opened again"))
        assert opened is None
        monkeypatch.setattr(Registry, "list_versions", lambda *_: pytest.fail("all versions"))
        assert source.look() == first
        assert first[0] == digest  # type: ignore[index]
