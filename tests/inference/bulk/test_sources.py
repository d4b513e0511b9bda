"""Where images are found: nothing missed, nothing taken for what it is not, and a million cost no memory."""

import io
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from lesion.errors import ConfigError, DataError, LesionError, NotAnImage, NotFoundError
from lesion.inference.bulk import sources
from lesion.inference.bulk.items import Item
from lesion.inference.bulk.sources import check_words, find_items, is_single, read_stream
from tests.inference.bulk.conftest import names, paint


def find(*words: object, column: str | None = None) -> list[str]:
    return names(list(find_items([str(word) for word in words], column)))


def test_a_folder_gives_its_images_at_any_depth_by_name(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "c.jpeg", "z/1.jpg", "y/x/2.jpg", ".hidden.jpg", ".cache/3.jpg", "no.txt", "jpg"):
        paint((tmp_path / name).with_suffix(".png")).rename(tmp_path / name)
    (tmp_path / "folder.jpg").mkdir()
    expected = ["a.PNG", "b.jpg", "c.jpeg", "y/x/2.jpg", "z/1.jpg"]
    assert find(tmp_path) == [str(tmp_path / name) for name in expected]


def test_names_are_sorted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PART", 4)
    for number in range(11):
        (tmp_path / f"{number:02}.jpg").touch()
    found = find(tmp_path)
    assert sorted(found) == [str(tmp_path / f"{number:02}.jpg") for number in range(11)]
    assert all(part == sorted(part) for part in (found[:4], found[4:8], found[8:]))


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_folders_are_passed_over_and_broken_links_are_not(tmp_path: Path) -> None:
    paint(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert find(tmp_path / "in") == [str(tmp_path / "in" / name) for name in ("a.png", "b.png")]
    assert find(tmp_path / "link") == [str(tmp_path / "link" / name) for name in ("a.png", "b.png")]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png"):
        paint(tmp_path / name)
    items = find_items([str(tmp_path)])
    first = next(items)
    assert first is not None
    shutil.rmtree(tmp_path / "sub")  # after it was listed, before it is entered
    (second,) = items
    assert second is not None
    assert second.name == str(tmp_path / "sub")
    assert isinstance(second.source, LesionError)
    assert "cannot read the folder" in second.source.message


def test_a_pattern_gives_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a1.png", "a2.png", "b1.png", "d/a3.png"):
        paint(tmp_path / name)
    (tmp_path / "a4.txt").touch()
    (tmp_path / "a5.png").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find("a*") == ["a1.png", "a2.png"]
    assert find("**/a?.png") == ["a1.png", "a2.png", "d/a3.png"]
    assert find(tmp_path / "[ab]1.png", "d") == [str(tmp_path / "a1.png"), str(tmp_path / "b1.png"), "d/a3.png"]


def test_a_file_called_like_a_pattern_is_itself(tmp_path: Path) -> None:
    path = paint(tmp_path / "a[1].png")
    assert find(path) == [str(path)]
    assert is_single([str(path)])


def test_what_is_named_on_the_command_line_needs_not_exist_yet() -> None:
    assert find("nowhere.jpg", "x" * 5000) == ["nowhere.jpg", "x" * 5000]


@pytest.mark.parametrize("word", ["{}", "{}/*.jpg", "{}/empty.csv"])
def test_a_word_that_means_no_image_is_not_found(word: str, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("path\n\n")
    (tmp_path / "note.txt").touch()
    with pytest.raises(NotFoundError, match="no image in ") as caught:
        check_words([word.format(tmp_path)])
    assert ".jpg" in caught.value.hint


def test_a_name_that_is_not_text_stays_readable_and_its_file_is_found(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("other systems allow no such names")
    path = paint(tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.png"))
    (item,) = find_items([str(tmp_path)])
    assert item is not None
    assert item.name == str(tmp_path) + "/\\xff\n.png"
    assert item.source == str(path)
    assert path.read_bytes()


# --- tables -----------------------------------------------------------------------------------------------------------


def table(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "path\na.png\nsub/b.png\n",
        "\ufeffid,Image_Path,file_size\r\n1,a.png,7\r\n2,sub/b.png,8\r\n",
        "id;FILENAME\n1;a.png\n\n2; sub/b.png \n",
        'note\timage\n"two\nlines"\ta.png\n\tsub/b.png\n',
        "image,path\nx.png,a.png\ny.png,sub/b.png",
        "sep=;\r\nid;path\r\n1;a.png\r\n2;sub/b.png\r\n",
        "path;;\na.png;;\nsub/b.png;;\n;;\n",
    ],
    ids=["alone", "windows", "semicolon", "tab", "two", "separator line", "empty columns and rows"],
)
def test_a_table_gives_the_images_of_its_column_beside_it(text: str, tmp_path: Path) -> None:
    assert find(table(tmp_path / "t.csv", text)) == [str(tmp_path / "a.png"), str(tmp_path / "sub" / "b.png")]


def test_the_column_can_be_named(tmp_path: Path) -> None:
    path = table(tmp_path / "t.TSV", "path\tOther One\na.png\t/b.png\n")
    assert find(path, column="other one") == ["/b.png"]


def test_a_bad_row_is_an_item_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", 'id,path\n1,\n2\n3,a,b.png\n4,"a,b.png"\n5,a\0b\n6,ok.png\n')
    items = [item for item in find_items([str(path)]) if item]
    bad = [item for item in items if isinstance(item.source, LesionError)]
    assert [item.source.message for item in bad if isinstance(item.source, LesionError)] == [
        f"no path in {path}:2",
        f"no path in {path}:3",
        f"3 cells in {path}:4, 2 expected: is a comma not quoted?",
        f"no such image: {tmp_path}/a\\x00b",
    ]
    assert [item.source for item in items if item not in bad] == [str(tmp_path / "a,b.png"), str(tmp_path / "ok.png")]


def test_a_path_of_any_bytes_is_found(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("other systems allow no such names")
    path = table(tmp_path / "t.csv", b"path\n\xe4.png\n")
    (item,) = find_items([str(path)])
    assert item == Item(f"{tmp_path}/\\xe4.png", os.fsdecode(os.fsencode(tmp_path) + b"/\xe4.png"))


@pytest.mark.parametrize(
    ("text", "column", "kind", "said"),
    [
        ("image_id,dx\na,b\n", None, ConfigError, "has no column of paths; its columns are image_id, dx"),
        ("path\na\n", "file", ConfigError, "has no column 'file'; its columns are path"),
        ("", None, ConfigError, "its columns are none"),
        ("path\n" + "x" * 200_000 + "\n", None, DataError, "line 2: field larger than field limit"),
        ("sep=;\npath\n" + "x" * 200_000 + "\n", None, DataError, "line 3: field larger than field limit"),
        (b"PK\x03\x04\x14\0", None, DataError, "is not a CSV file in UTF-8"),
        ("path\na.png\n".encode("utf-16"), None, DataError, "is not a CSV file in UTF-8"),
        ("Größe;Läsion\n1;a.png\n".encode("cp1252"), None, ConfigError, "its columns are Gr\\xf6\\xdfe, L\\xe4sion"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_at_once(
    text: str | bytes, column: str | None, kind: type[LesionError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        check_words([str(table(tmp_path / "t.csv", text))], column)
    assert said in caught.value.message
    assert ("CSV in UTF-8" in caught.value.hint) is (kind is DataError or "\\x" in said)


def test_a_table_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such table"):
        check_words([str(tmp_path / "t.csv")])


def test_a_column_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--column goes with a table"):
        check_words([str(paint(tmp_path / "a.png"))], "path")


# --- stdin ------------------------------------------------------------------------------------------------------------


def test_stdin_is_a_list_of_paths() -> None:
    stream = io.BytesIO(b"\xef\xbb\xbfa.png\r\n\n  \n/b c.png\nmemory://x/d.png\nlast.png")
    assert names(list(read_stream(stream))) == ["a.png", "/b c.png", "memory://x/d.png", "last.png"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_stdin_is_the_bytes_of_one_image(kind: str) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((500, 400), 50).save(buffer, kind)
    content = buffer.getvalue()
    assert len(content) > 2**16
    assert list(read_stream(io.BytesIO(content))) == [Item("stdin", content)]


def test_stdin_may_bring_a_byte_at_a_time() -> None:
    class Slow(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            return self.read(1)

    assert names(list(read_stream(Slow(b"a.png\nb.png\n")))) == ["a.png", "b.png"]


def test_a_path_on_stdin_is_not_kept_waiting_for_the_next() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        items = read_stream(stream)
        threading.Timer(0.2, lambda: pipe.write(b"/a/long/enough/path.png\n")).start()
        assert names([next(items), next(items)]) == ["/a/long/enough/path.png"]  # and None: all that came so far
        pipe.write(b"b.png")
        pipe.close()
        assert names(list(items)) == ["b.png"]


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (b"GIF89a\0\0\0", NotAnImage, "neither a JPEG or PNG nor a list"),
        ("a.png\n".encode("utf-16"), NotAnImage, "neither a JPEG or PNG nor a list"),
        (b"x" * 70_000, DataError, "a line on stdin has more than 65536 bytes"),
        (b"", NotFoundError, "nothing came on stdin"),
        (b"\n\n", NotFoundError, "nothing came on stdin"),
    ],
)
def test_anything_else_on_stdin_is_refused(content: bytes, kind: type[LesionError], said: str) -> None:
    with pytest.raises(kind, match=said):
        list(find_items(["-"], stdin=io.BytesIO(content)))


@pytest.mark.parametrize("words", [["-"], ["a.png", "b.png"], ["s3://b/a.png"], ["t.csv"], ["*.png"], ["."], []])
def test_only_one_plain_file_is_single(words: list[str]) -> None:
    assert not is_single(words)
    assert is_single(["a.png"])


@pytest.mark.parametrize("start", ["a", "a.png", "\ufeffa.png"])
def test_a_short_path_on_stdin_is_given_at_once(start: str) -> None:
    def fail() -> bytes:
        raise AssertionError("waits for more")

    class Slow(io.RawIOBase):
        parts = iter([f"{start}\n".encode()])

        def read1(self, _: int) -> bytes:
            return next(self.parts, b"") or fail()

    found = read_stream(Slow())  # type: ignore[arg-type]
    assert [item.name if item else item for item in (next(found), next(found))] == [start.strip("\ufeff"), None]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_a_pipe_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    (tmp_path / "b.csv").symlink_to("/dev/zero")
    for path in (tmp_path / "a.csv", tmp_path / "b.csv"):
        with pytest.raises(DataError, match=r"it is a (pipe|device), not a regular file"):
            next(find_items([str(path)]))
