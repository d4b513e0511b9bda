"""A missing optional part is named with the command that installs it."""

import sys
from pathlib import Path

import pytest

from lesion.errors import MissingExtra
from lesion.extras import need


def test_what_is_installed_is_accepted() -> None:
    need("train")
    need("train", "json", "csv")


def test_all_missing_modules_are_named_with_the_install_command() -> None:
    with pytest.raises(MissingExtra) as caught:
        need("train", "absent_one", "json", "absent_two")
    assert caught.value.message == "`lesion train` needs the 'train' extra: absent_one, absent_two not installed"
    assert caught.value.hint == 'pip install "lesion[train]"'
    assert caught.value.exit_code == 3


def test_another_extra_may_be_named() -> None:
    with pytest.raises(MissingExtra) as caught:
        need("eval", "absent_one", extra="bench")
    assert "'bench' extra" in caught.value.message
    assert caught.value.hint == 'pip install "lesion[bench]"'


def test_asking_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lesion_canary.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    need("train", "lesion_canary")
    assert "lesion_canary" not in sys.modules
