"""Progress: one step per item, and an end whatever happens."""

from collections.abc import Iterator
from unittest.mock import Mock, call

import pytest

from lesion.progress import Silent, track


def test_items_pass_unchanged_and_each_is_a_step() -> None:
    progress = Mock()
    assert list(track(progress, "abc", 3, "decode")) == ["a", "b", "c"]
    assert progress.method_calls == [call.begin("decode", 3), *[call.advance()] * 3, call.end()]


def test_a_step_is_counted_only_when_its_item_is_done() -> None:
    progress = Mock()
    items = track(progress, "abc", 3, "decode")
    next(items)
    assert progress.method_calls == [call.begin("decode", 3)]
    next(items)
    assert progress.method_calls == [call.begin("decode", 3), call.advance()]


def test_nothing_to_do_still_begins_and_ends() -> None:
    progress = Mock()
    assert list(track(progress, [], 0, "decode")) == []
    assert progress.method_calls == [call.begin("decode", 0), call.end()]


def test_the_bar_ends_when_the_work_fails() -> None:
    def work() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    progress = Mock()
    with pytest.raises(ValueError, match="broken"):
        list(track(progress, work(), 2, "decode"))
    assert progress.method_calls == [call.begin("decode", 2), call.advance(), call.end()]


def test_the_bar_ends_when_nobody_takes_more() -> None:
    progress = Mock()
    items = track(progress, "abc", 3, "decode")
    next(items)
    items.close()
    assert progress.method_calls == [call.begin("decode", 3), call.end()]


def test_items_are_taken_one_at_a_time() -> None:
    taken = []
    items = track(Silent(), (taken.append(i) or i for i in range(3)), 3, "decode")
    assert taken == []
    next(items)
    assert taken == [0]


def test_silence_accepts_everything_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Silent()
    silent.begin("fit", 3)
    silent.advance(loss=0.5, auroc=0.9)
    silent.end()
    assert capsys.readouterr() == ("", "")
