"""Hints of `lesion predict` for many images, followed: what a hint says is done, and the command then succeeds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.inference.bulk.conftest import paint

Words = list[str]


def add(*more: str) -> Callable[[Words], Words]:
    return lambda words: [*words, *more]


def take(first: str) -> Callable[[Words], Words]:
    """Another word in place of the first one."""
    return lambda words: [first, *words[1:]]


def save_as_utf8(words: Words) -> Words:
    table = Path(words[0])
    table.write_text(table.read_bytes().decode("cp1252"), "utf-8")
    return [*words, "--column", "Läsion"]


def name_another(words: Words) -> Words:
    return [words[0], words[1], words[2] + "2.jsonl"]


@pytest.mark.parametrize(
    ("words", "hint", "follow"),
    [
        (["{0}/in", "--output", "{0}/old.jsonl"], "--resume goes on with it", add("--resume")),
        (["{0}/in", "--output", "{0}/old.jsonl"], "name another file", name_another),
        (["{0}/in", "--output", "{0}/new.txt"], "name it with --format", add("--format", "csv")),
        (["{0}/foreign.csv", "--output", "{0}/x.csv"], "name one with --column", add("--column", "pic")),
        (["{0}/cp1252.csv", "--output", "{0}/x.csv"], "save it as CSV in UTF-8", save_as_utf8),
        (["{0}/in", "--column", "pic", "--output", "{0}/x.csv"], "name a CSV file", take("{0}/foreign.csv")),
        (["{0}/empty", "--output", "{0}/x.csv"], "name a file, or a folder", take("{0}/in")),
    ],
)  # fmt: skip
def test_a_hint_leads_on(
    words: Words, hint: str, follow: Callable[[Words], Words], tiny: Path, tmp_path: Path, cli: Cli
) -> None:
    for name in ("in", "empty"):
        (tmp_path / name).mkdir()
    paint(tmp_path / "in" / "a.png")
    (tmp_path / "foreign.csv").write_text("pic\nin/a.png\n", "utf-8")
    (tmp_path / "cp1252.csv").write_text("Läsion\nin/a.png\n", "cp1252")
    assert cli("predict", tmp_path / "in", "--model", tiny, "--output", tmp_path / "old.jsonl").code == 0
    words = [word.format(tmp_path) for word in words]
    refused = cli("predict", *words, "--model", tiny)
    assert refused.code in (2, 65, 66), refused.err
    assert hint in refused.err
    followed = cli("predict", *(word.format(tmp_path) for word in follow(words)), "--model", tiny)
    assert followed.code == 0, followed.err
