"""The table of docs/environments.md, against the files that it tells of."""

import re
from typing import Any

import pytest
import yaml

from lesion.config.load import load_config, shipped
from tests.conftest import REPO
from tests.deploy.conftest import DEPLOY
from tests.deploy.test_service import Settings

PAGE = (REPO / "docs/environments.md").read_text("utf-8")
NAMES = ("development", "staging", "production")
ROWS = [[cell.strip() for cell in row.split("|")[1:-1]] for row in PAGE.splitlines() if row.startswith("| ")]


def cells(key: str) -> dict[str, str]:
    """What the table says about a key, by environment."""
    (row,) = [row for row in ROWS if f"`{key}`" in row[1]]
    return dict(zip(NAMES, (cell.strip("`") for cell in row[2:]), strict=True))


def value_of(config: Any, key: str) -> str:
    for part in key.split("."):
        config = getattr(config, part)
    return str(yaml.safe_dump(config, default_flow_style=True)).split("\n")[0]


def test_the_table_has_a_column_for_each_environment() -> None:
    assert ROWS[0][2:] == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_difference_is_in_the_table_and_every_entry_is_true(name: str) -> None:
    config, keys = load_config([shipped("env", name)]), [re.findall(r"`([\w.]+)`", row[1]) for row in ROWS[1:]]
    ours = {key for (key,) in keys if "." in key and not key.endswith(".toml")}
    for key in ours:
        assert cells(key)[name] == value_of(config, key), key
    given = yaml.safe_load(shipped("env", name).read_text("utf-8"))
    assert {f"{section}.{key}" for section, values in given.items() for key in values} <= ours


@pytest.mark.parametrize("name", NAMES[1:])
def test_what_the_cloud_files_say_is_in_the_table(name: str) -> None:
    settings = Settings.read(DEPLOY / f"{name}.toml")
    for key in ("project", "domain"):
        assert cells(key)[name] == getattr(settings, key)
    assert cells("regions")[name] == ", ".join(settings.regions)
    assert cells("min_instances")[name] == f"{settings.min_instances} to {settings.max_instances}"


def test_staging_serves_as_production_does() -> None:
    staging, production = (load_config([shipped("env", name)]).serve for name in NAMES[1:])
    assert staging == production
