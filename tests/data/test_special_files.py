"""Pipes, devices and endless files where a dataset has its files: a clear error at once, no command waits for them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lesion.config.schema import DataConfig
from lesion.data.archive import extract
from lesion.data.cache import open_cache
from lesion.data.csvfile import read_csv_file
from lesion.data.examine import look_at
from lesion.data.index import IMAGES, METADATA, read_index
from lesion.data.kaggle import read_token
from lesion.data.ledger import LEDGER, Ledger
from lesion.data.pixels import read_photo
from lesion.data.publishers import SOURCES
from lesion.data.quarantine import read_quarantine
from lesion.data.split import open_dataset, read_parts
from lesion.data.tables import read_metadata
from lesion.errors import DataError, ImageError
from lesion.preprocess import PreprocessSpec
from tests.conftest import Cli

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
SPEC = PreprocessSpec(32, "bilinear")


def to_pipe(path: Path) -> Path:
    """Put a pipe that nobody writes into in the place of a file."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(read_photo, id="image"),
        pytest.param(read_csv_file, id="table-to-import"),
        pytest.param(lambda path: read_metadata([path]), id="downloaded-table"),
        pytest.param(read_token, id="token"),
        pytest.param(lambda path: read_parts(to_pipe(path.parent / "splits.csv").parent), id="splits.csv"),
        pytest.param(lambda path: read_quarantine(to_pipe(path.parent / "quarantine.csv").parent), id="quarantine.csv"),
        pytest.param(
            lambda path: Ledger.read(to_pipe(path.parent / LEDGER).parent, next(iter(SOURCES.values())), None),
            id="downloads.json",
        ),
    ],
)
def test_a_pipe_in_place_of_a_file_is_refused_by_name(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = to_pipe(tmp_path / "file")
    with pytest.raises(DataError, match=str(tmp_path)):
        read(path)


def test_a_pipe_in_place_of_the_metadata_is_refused_by_name(ham_copy: Path) -> None:
    path = to_pipe(ham_copy / METADATA)
    with pytest.raises(DataError, match=f"cannot read {path}: it is a pipe, not a regular file"):
        read_index(ham_copy)


def test_a_pipe_in_place_of_the_split_is_refused_by_name(ham_copy: Path) -> None:
    config = DataConfig(root=str(ham_copy), near_duplicates=False)
    open_dataset(config)
    to_pipe(ham_copy / "processed" / "splits.json")
    with pytest.raises(DataError, match="it is a pipe"):
        open_dataset(config)


def test_a_pipe_in_place_of_the_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="it is a pipe"):
        extract(to_pipe(tmp_path / "a.zip"), tmp_path)


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_pipe_in_place_of_the_cache_is_replaced(suffix: str, ham_root: Path, tmp_path: Path) -> None:
    rows = read_index(ham_root)[:3]
    before = open_cache(rows, SPEC, tmp_path).take(rows)
    (path,) = tmp_path.glob(f"*{suffix}")
    to_pipe(path)
    assert np.array_equal(open_cache(rows, SPEC, tmp_path).take(rows), before)
    assert path.is_file()


def test_an_image_that_became_a_pipe_is_an_error_of_the_cache(ham_copy: Path, tmp_path: Path) -> None:
    rows = read_index(ham_copy)[:3]
    open_cache(rows, SPEC, tmp_path)
    to_pipe(rows[1].path)
    with pytest.raises(ImageError, match=rows[1].path.name):
        open_cache(rows, SPEC, tmp_path)


@pytest.mark.parametrize("text", ["{" * 50_000, '{"a":' * 50_000, "[" * 50_000])
def test_nesting_without_end_is_a_damaged_file(text: str, ham_copy: Path, tmp_path: Path) -> None:
    config = DataConfig(root=str(ham_copy), near_duplicates=False)
    open_dataset(config)
    (ham_copy / "processed" / "splits.json").write_text(text)
    with pytest.raises(DataError, match="is not readable"):
        open_dataset(config)
    (tmp_path / LEDGER).write_text(text)
    with pytest.raises(DataError, match="is not readable"):
        Ledger.read(tmp_path, next(iter(SOURCES.values())), None)


def test_an_endless_table_is_not_read_to_its_end(ham_copy: Path, tmp_path: Path) -> None:
    with (ham_copy / METADATA).open("ab") as file:
        file.truncate(2**40)  # a hole: no disk holds so much
    with pytest.raises(DataError, match="it has more than 256 MiB"):
        read_index(ham_copy)
    with (tmp_path / "t.csv").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match="it has more than 256 MiB"):
        read_csv_file(tmp_path / "t.csv")


def test_the_audit_says_what_is_no_file(tmp_path: Path) -> None:
    look = look_at(to_pipe(tmp_path / "a.jpg"))
    assert (look.flaw, look.message) == ("damaged", "cannot read a.jpg: it is a pipe, not a regular file")


@pytest.mark.parametrize(
    "words", [("data", "stats", "--out", "stats"), ("data", "prepare"), ("train", "trainer.epochs=1")], ids=" ".join
)
def test_no_command_waits_for_a_pipe_among_the_images(
    words: tuple[str, ...], ham_copy: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words[0] == "train":
        pytest.importorskip("lightning", reason="needs the extra `train`")
    monkeypatch.chdir(tmp_path)
    image = to_pipe(sorted((ham_copy / IMAGES).iterdir())[0])
    outcome = cli(*words, f"data.root={ham_copy}")
    if "stats" in words:  # it counts what the metadata say; the sheet leaves a gap
        assert outcome.code == 0, outcome.err
    else:
        assert outcome.code == 65, outcome.err
        assert f"cannot read {image}: it is a pipe, not a regular file" in outcome.err


def test_a_name_that_is_no_text_is_imported_under_its_escaped_name(ham_root: Path, cli: Cli, tmp_path: Path) -> None:
    photos = sorted((ham_root / IMAGES).iterdir())
    for number, folder in enumerate(("mel", "nv")):
        (tmp_path / "u" / folder).mkdir(parents=True)
        shutil.copy(photos[number], tmp_path / "u" / folder / "a.jpg" if number else tmp_path / "u" / folder / "b.jpg")
    try:
        shutil.copy(photos[2], os.fsencode(tmp_path / "u" / "mel") + b"/\xff\xfe.jpg")
    except OSError:
        pytest.skip("this file system takes no such name")
    outcome = cli("data", "import", tmp_path / "u", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["renamed"] == {"_xff_xfe": "mel/\\xff\\xfe.jpg"}
    assert (tmp_path / "out" / IMAGES / "_xff_xfe.jpg").is_file()


def test_a_name_without_letters_is_named_with_its_folder_and_can_be_left_out(
    ham_root: Path, cli: Cli, tmp_path: Path
) -> None:
    photos = sorted((ham_root / IMAGES).iterdir())
    (tmp_path / "u" / "mel").mkdir(parents=True)
    shutil.copy(photos[0], tmp_path / "u" / "mel" / "a.jpg")
    shutil.copy(photos[1], tmp_path / "u" / "mel" / "__.jpg")
    words = ("data", "import", tmp_path / "u", tmp_path / "out")
    outcome = cli(*words)
    assert outcome.code == 65
    assert "mel/__.jpg (no letter or digit in its name)" in outcome.err
    outcome = cli(*words, "--skip-unusable", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["left_out"] == {"no letter or digit in its name": ["mel/__.jpg"]}


def test_an_unlisted_image_whose_name_is_no_text_is_named_by_the_audit(ham_copy: Path, cli: Cli) -> None:
    try:
        shutil.copy(next((ham_copy / IMAGES).iterdir()), os.fsencode(ham_copy / IMAGES) + b"/\xff.jpg")
    except OSError:
        pytest.skip("this file system takes no such name")
    outcome = cli("data", "audit", f"data.root={ham_copy}", "--json", "--html", ham_copy / "audit.html")
    found = [each for each in json.loads(outcome.out)["findings"] if each["kind"] == "unlisted"]
    assert [each["images"] for each in found] == [["\\xff.jpg"]]
    assert "\\xff.jpg" in (ham_copy / "audit.html").read_text("utf-8")
