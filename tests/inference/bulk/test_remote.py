"""Images and answers elsewhere, through fsspec; its memory stands in for a bucket."""

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lesion.errors import DataError, ImageTooLarge, MissingExtra, NotFoundError, OutputError, RemoteError
from lesion.images import MAX_BYTES, decode_image
from lesion.inference.bulk import remote
from lesion.inference.bulk.outputs import FileOutput
from lesion.inference.bulk.pipeline import answer
from lesion.inference.bulk.sources import check_words, find_items
from lesion.inference.predictor import Predictor
from lesion.records import Prediction
from tests.conftest import PATIENCE_S
from tests.inference.bulk.conftest import names


@pytest.fixture
def bucket() -> Any:
    fsspec = pytest.importorskip("fsspec")
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "pink").save(buffer, "PNG")
    for name in ("b/2.png", "b/1.png", "b/sub/3.png", "b/note.txt"):
        fs.pipe(f"/{name}", buffer.getvalue())
    return fs


def test_a_folder_a_pattern_and_a_file_are_found(bucket: Any) -> None:
    assert names(list(find_items(["memory://b"]))) == [
        "memory:///b/1.png",
        "memory:///b/2.png",
        "memory:///b/sub/3.png",
    ]
    assert names(list(find_items(["memory://b/*.png"]))) == ["memory:///b/1.png", "memory:///b/2.png"]
    assert names(list(find_items(["memory://b/2.png"]))) == ["memory://b/2.png"]


def test_a_remote_table_names_images_beside_it(bucket: Any) -> None:
    bucket.pipe("/b/t.csv", b"path\n1.png\nmemory://b/sub/3.png\n")
    assert names(list(find_items(["memory://b/t.csv"]))) == ["memory://b/1.png", "memory://b/sub/3.png"]
    with pytest.raises(NotFoundError, match="no such table"):
        check_words(["memory://b/none.csv"])


def test_remote_images_are_answered_like_local_ones(bucket: Any, predictor: Predictor) -> None:
    found = list(answer(find_items(["memory://b", "memory://b/none.png"]), predictor, 2, 2))
    assert [type(each).__name__ for each in found] == ["Prediction"] * 3 + ["Unreadable"]
    local = predictor.predict(decode_image(bucket.cat("/b/1.png")), "memory:///b/1.png")
    assert found[0] == local


def test_a_huge_file_is_not_read_to_its_end(bucket: Any, predictor: Predictor) -> None:
    bucket.pipe("/b/huge.png", b"\x89PNG\r\n\x1a\n" + bytes(MAX_BYTES + 100))
    content = remote.read("memory://b/huge.png")
    assert len(content) == MAX_BYTES + 1
    with pytest.raises(ImageTooLarge):
        decode_image(content)


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_answers_are_written_to_a_remote_place_at_the_end(
    form: str, bucket: Any, template: Prediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for resume in (False, True):
        output = FileOutput(f"memory://b/answers.{form}", form, template, resume)
        output.write(template)
        output.close()
        assert not bucket.exists(f"/b/answers.{form}")
        assert (tmp_path / f"answers.{form}.partial").exists()
    output = FileOutput(f"memory://b/answers.{form}", form, template, resume=True)
    assert output.earlier.answers == 2
    output.finish()
    output.close()
    assert bucket.cat(f"/b/answers.{form}").count(b"template") == 2
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_fails_keeps_the_answers(
    bucket: Any, template: Prediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = FileOutput("memory://b/1.png/answers.csv", "csv", template)  # a file is no folder
    output.write(template)
    monkeypatch.setattr(type(bucket), "put_file", lambda *_: (_ for _ in ()).throw(OSError("no access")))
    with pytest.raises(OutputError, match=r"cannot write memory://.*: no access") as caught:
        output.finish()
    assert "--resume" in caught.value.hint
    output.close()
    assert [path.name for path in tmp_path.iterdir()] == ["answers.csv.partial"]


def test_what_is_missing_or_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(RemoteError, match=r"cannot use nonsense://x/a\.png"):
        remote.read("nonsense://x/a.png")
    monkeypatch.setattr("lesion.remote.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        remote.read("memory://b/1.png")
    assert caught.value.hint == 'pip install "lesion[store]"'


@pytest.fixture
def hang() -> Iterator[Callable[..., None]]:
    """A store's method that does not return before the test ends."""
    ended = threading.Event()
    yield lambda *_, **__: (ended.wait(PATIENCE_S), None)[1]
    ended.set()


@pytest.mark.parametrize(
    ("method", "bound", "question"),
    [
        ("open", "lesion.remote.STALL_S", lambda: remote.read("memory://b/1.png")),
        ("open", "lesion.remote.STALL_S", lambda: remote.open_text("memory://b/t.csv")),
        ("glob", "lesion.inference.bulk.remote.LIST_S", lambda: list(remote.find("memory://b/*", (".png",)))),
        ("ls", "lesion.inference.bulk.remote.LIST_S", lambda: list(remote.find("memory://b", (".png",)))),
        ("isdir", "lesion.inference.bulk.remote.ANSWER_S", lambda: list(remote.find("memory://b", (".png",)))),
        ("exists", "lesion.inference.bulk.remote.ANSWER_S", lambda: remote.exists("memory://b/1.png")),
    ],
)
def test_a_store_that_hangs_is_given_up(
    method: str, bound: str, question: Callable[[], object], bucket: Any, hang: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(type(bucket), method, hang)
    monkeypatch.setattr(bound, 0.05)
    with pytest.raises(RemoteError, match=r"has not answered for 0\.05 s"):
        question()


def test_an_image_that_fails_for_the_moment_is_read_again(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failures, opened = [ConnectionResetError("reset")] * 2, type(bucket).open
    monkeypatch.setattr("lesion.remote.FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(
        type(bucket),
        "open",
        lambda *words, **more: opened(*words, **more) if not failures else (_ for _ in ()).throw(failures.pop()),
    )
    assert remote.read("memory://b/1.png") == bucket.cat("/b/1.png")


def test_an_endless_table_is_refused(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.pipe("/b/t.csv", b"path\n" + b"1.png\n" * 100)
    monkeypatch.setattr(remote, "TABLE_BYTES", 100)
    with pytest.raises(DataError, match=r"memory://b/t\.csv has more than"):
        remote.open_text("memory://b/t.csv")


def test_no_message_holds_a_password(bucket: Any) -> None:
    with pytest.raises(NotFoundError) as caught:
        remote.read("memory://user:secret@b/none.png")
    assert "secret" not in caught.value.message
