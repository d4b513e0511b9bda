"""The exit codes of the documentation are those of the code."""

import re

from lesion import errors
from lesion.cli.app import EPILOG
from lesion.errors import LesionError
from tests.conftest import REPO

CLASSES = {
    name: each for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, LesionError)
}
CODES = {each.exit_code for each in CLASSES.values()}
SERVER = {75, 77}  # which only a server answers, or ends with


def read_codes(text: str) -> set[int]:
    """Every exit code of a page: in a table's column of that name, and in sentences."""
    found = {int(code) for code in re.findall(r"\bexit(?:s with)?(?: code)? (\d+)", text)}
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, *rows = ([cell.strip() for cell in line.split("|")] for line in table.splitlines())
        if "exit code" in head:
            found |= {int(code) for row in rows for code in re.findall(r"\d+", row[head.index("exit code")])}
    return found


def test_the_tree_in_the_docstring_is_that_of_the_classes() -> None:
    rows = re.findall(r"^ +(?:[│ ]*[├└]── )?(\w+) +(?:exit|(\d+)) +(?:HTTP|(\d+)) ", str(errors.__doc__), re.MULTILINE)
    told = {name: (int(code), int(status)) for name, code, status in rows if code}
    assert told == {name: (each.exit_code, each.http_status) for name, each in CLASSES.items() if name != "LesionError"}


def test_the_help_names_every_exit_code_once() -> None:
    told = [int(code) for code in re.findall(r"(?:: |, )(\d+) ", EPILOG)]
    assert told == sorted({0} | CODES - SERVER)


def test_the_documentation_names_only_codes_of_the_code() -> None:
    pages = {path.name: read_codes(path.read_text("utf-8")) for path in (REPO / "docs").glob("*.md")}
    assert {"predict.md", "serving.md", "training.md"} <= {name for name, codes in pages.items() if len(codes) > 2}
    assert set().union(*pages.values()) - CODES <= {0}


def test_docs_say_how_a_server_ends() -> None:
    stop = (REPO / "docs" / "serving.md").read_text("utf-8").partition("## Stop")[2].partition("\n## ")[0]
    assert re.findall(r"^\| (\d+) \| (SIGTERM|Ctrl-C)", stop, re.MULTILINE) == [("0", "SIGTERM"), ("130", "Ctrl-C")]
