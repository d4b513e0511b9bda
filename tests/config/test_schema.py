"""Every knob has a docstring, a default that its own range allows, and a range that is enforced."""

import ast
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from lesion.config import schema, serving
from lesion.config.load import load_config, to_yaml
from lesion.config.schema import Config
from lesion.errors import ConfigError
from lesion.taxonomy import MALIGNANT_DIAGNOSES


def knobs(section: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    for field in fields(section):
        value = getattr(section, field.name)
        if is_dataclass(value):
            yield from knobs(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field


KNOBS = dict(knobs(Config()))
CLASSES = [
    node
    for module in (schema, serving)
    for node in ast.parse(Path(module.__file__).read_text("utf-8")).body
    if isinstance(node, ast.ClassDef) and node.decorator_list
]


def get(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


@pytest.mark.parametrize("node", CLASSES, ids=lambda node: node.name)
def test_every_section_and_every_knob_has_a_docstring(node: ast.ClassDef) -> None:
    assert ast.get_docstring(node)
    sections = {f.name for f in fields(Config) if is_dataclass(f.default_factory)}
    for field, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            if node.name == "Config" and field.target.id in sections:
                continue
            described = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            assert described, f"{node.name}.{field.target.id} has no docstring below it"
            assert str(below.value.value).strip().endswith("."), f"{node.name}.{field.target.id}: no sentence"


def test_the_source_holds_all_sections() -> None:
    assert len(CLASSES) == 1 + sum(is_dataclass(field.default_factory) for field in fields(Config))


def test_every_default_has_its_type_and_lies_in_its_range(tmp_path: Path) -> None:
    (tmp_path / "defaults.yaml").write_text(to_yaml(Config()), "utf-8")
    assert load_config([tmp_path / "defaults.yaml"]) == Config()


def test_every_knob_is_typed_as_its_default_is() -> None:
    for section in (
        Config,
        *(field.default_factory for field in fields(Config) if is_dataclass(field.default_factory)),
    ):
        hints = get_type_hints(section)
        for name, value in vars(section()).items():  # type: ignore[operator]
            if not is_dataclass(value) and not isinstance(value, list):
                assert type(value) in (hints[name], *getattr(hints[name], "__args__", ())), f"{section}: {name}"


@pytest.mark.parametrize("key", [key for key, field in KNOBS.items() if "choices" in field.metadata])
def test_every_choice_is_accepted_and_nothing_else(key: str) -> None:
    choices = KNOBS[key].metadata["choices"]
    assert get(Config(), key) in choices
    for choice in choices:
        assert get(load_config(overrides=[f"{key}={choice}"]), key) == choice
    with pytest.raises(ConfigError, match=f"{key}: one of {', '.join(choices)}"):
        load_config(overrides=[f"{key}=nothing-like-it"])


@pytest.mark.parametrize("key", [key for key, field in KNOBS.items() if "at_least" in field.metadata])
def test_the_least_value_is_accepted_and_less_is_not(key: str) -> None:
    low = KNOBS[key].metadata["at_least"]
    assert get(load_config(overrides=[f"{key}={low}"]), key) == low
    with pytest.raises(ConfigError, match=f"{key}: at least {low} expected, got "):
        load_config(overrides=[f"{key}={low - 1}"])


@pytest.mark.parametrize("key", [key for key, field in KNOBS.items() if "above" in field.metadata])
def test_the_bound_itself_is_refused_and_a_bit_more_is_not(key: str) -> None:
    low = KNOBS[key].metadata["above"]
    assert get(load_config(overrides=[f"{key}={low + 1e-6}"]), key) == low + 1e-6
    with pytest.raises(ConfigError, match=f"{key}: more than {low} expected, got "):
        load_config(overrides=[f"{key}={low}"])


@pytest.mark.parametrize("key", [key for key, field in KNOBS.items() if "at_most" in field.metadata])
def test_the_largest_value_is_accepted_and_more_is_not(key: str) -> None:
    high = KNOBS[key].metadata["at_most"]
    assert get(load_config(overrides=[f"{key}={high}"]), key) == high
    with pytest.raises(ConfigError, match=f"{key}: at most {high} expected, got "):
        load_config(overrides=[f"{key}={high + 1}"])


@pytest.mark.parametrize("key", [key for key in KNOBS if isinstance(get(Config(), key), int | float)])
def test_every_number_but_a_switch_has_a_range(key: str) -> None:
    assert KNOBS[key].metadata or isinstance(get(Config(), key), bool)


def test_the_malignant_diagnoses_are_those_of_the_taxonomy() -> None:
    assert tuple(Config().data.malignant) == MALIGNANT_DIAGNOSES
