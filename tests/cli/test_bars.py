"""Progress on a terminal: one line, with its figures, under the lines of the log; nothing elsewhere."""

import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from lesion.cli.bars import Bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def handler() -> Iterator[logging.StreamHandler[Terminal]]:
    log = logging.getLogger("lesion")
    before, level = log.handlers, log.level
    handler = logging.StreamHandler(Terminal())
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    yield handler
    log.handlers = before
    log.setLevel(level)


def work() -> None:
    bars = Bars()
    bars.begin("train", 4)
    bars.advance(2, epoch=1, loss=0.5, AUROC=float("nan"))
    logging.getLogger("lesion.engine").info("epoch 1/2 is done")
    bars.advance(2)
    bars.end()
    logging.getLogger("lesion.engine").info("all is done")


def test_a_bar_shows_figures_and_leaves_only_the_log(
    handler: logging.StreamHandler[Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    work()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "epoch 1  loss 0.5" in shown
    assert "AUROC" not in shown  # not known yet
    assert "4/4" in shown
    assert re.search(r"epoch 1/2 is done *\n", shown)
    assert shown.endswith("all is done\n")
    assert handler.stream is terminal


def test_in_a_pipe_only_the_log_is_written(
    handler: logging.StreamHandler[Terminal], capsys: pytest.CaptureFixture[str]
) -> None:
    work()
    assert handler.stream.getvalue() == "epoch 1/2 is done\nall is done\n"
    assert capsys.readouterr() == ("", "")
