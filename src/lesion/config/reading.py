"""Read settings from YAML files and from words of the command line; a value for a text key stays the text typed."""

from collections.abc import Iterator, Sequence
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from lesion.config.references import shorten
from lesion.config.schema import Config
from lesion.errors import ConfigError, NotFoundError
from lesion.files import read_regular

MAX_BYTES = 64 * 2**10
DEEPEST = 16  # levels of nesting
MOST = 10_000  # values of a file, each alias counted as what it stands for
LONGEST = 400  # characters of a number
NULL = ("", "~", "null", "Null", "NULL")
TAG = "tag:yaml.org,2002:"
NUMBERS = (f"{TAG}int", f"{TAG}float", f"{TAG}bool")
TEXTS = (f"{TAG}str", f"{TAG}timestamp", f"{TAG}value")
TAGS = (*NUMBERS, *TEXTS, f"{TAG}null", f"{TAG}seq", f"{TAG}map")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and where it came from."""

    key: str
    value: Any
    origin: str


def leaves(section: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Yield the dotted key and the field of every value below `section`, a dataclass of the configuration."""
    for field in fields(section):
        value = getattr(section, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field


def read_yaml(path: Path) -> list[Setting]:
    """Return the settings in the file at `path`.

    Raises:
        NotFoundError: nothing has this name.
        ConfigError: it is no regular file, is too large, or no YAML as lesion takes it.
    """
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
        node, loader = _compose(text)
        if node is None or node.tag == f"{TAG}null":
            return []
        if not isinstance(node, yaml.MappingNode):
            got = "list" if isinstance(node, yaml.SequenceNode) else "a single value"
            raise ConfigError(f"{path}: a mapping of keys to values expected, got {got}")
        return [Setting(key, value, str(path)) for key, value in _flatten(node, loader)]
    except FileNotFoundError as error:
        raise NotFoundError(f"no such configuration file: {path}", hint="check the path") from error
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(said.split())}") from error


def read_overrides(overrides: Sequence[str]) -> list[Setting]:
    """Return the settings that words of the form key=value make; ConfigError for any other word."""
    known = dict(leaves(Config()))
    settings = []
    for word in overrides:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"command line: {word!r} is not of the form key=value", hint="for example: trainer.epochs=5"
            )
        field = known.get(key)
        try:
            settings.append(Setting(key, _read_word(value, field), "command line"))
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"command line: {key}: {shorten(repr(value))} is not a YAML value") from error
    return settings


def _read_word(value: str, field: Field[Any] | None) -> Any:
    text = field is not None and _is_text(field)
    if field is not None and text and get_origin(field.type) is not list:
        if value in NULL and not (value == "~" and field.metadata.get("path")):
            return None
        if len(value) < 2 or value[0] not in "'\"" or value[-1] != value[0]:
            return value  # as it was typed: a folder may be called "Study # 2", "2024_01" or "[new]"
    node, loader = _compose(value)
    return None if node is None else _to_value(node, loader, text)


def _is_text(field: Field[Any]) -> bool:
    return str in (field.type, *get_args(field.type))


def _compose(text: str) -> tuple[yaml.Node | None, yaml.SafeLoader]:
    _check_shape(text)
    loader = yaml.SafeLoader(text)
    return loader.get_single_node(), loader


def _check_shape(text: str) -> None:
    """ValueError for a text whose nesting or aliases would cost much more than its length.

    The parser's events come one by one, before anything recursive looks at the text.
    """
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []  # anchors, and the count of values before each
    count = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            count += sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if len(open_) > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels of nesting")
        if count > MOST:
            raise ValueError(f"more than {MOST} values")


def _flatten(node: yaml.MappingNode, loader: yaml.SafeLoader, prefix: str = "") -> Iterator[tuple[str, Any]]:
    known = dict(leaves(Config()))
    sections = {key.rpartition(".")[0] for key in known}
    for name, value in _pairs(node, loader):
        key = f"{prefix}{name}"
        if isinstance(value, yaml.MappingNode) and key in sections:
            yield from _flatten(value, loader, f"{key}.")
            continue
        field = known.get(key)
        found = _to_value(value, loader, field is not None and _is_text(field))
        if found is not None or key not in sections:  # an empty section changes nothing
            yield key, found


def _pairs(node: yaml.MappingNode, loader: yaml.SafeLoader) -> list[tuple[str, yaml.Node]]:
    """The keys of a mapping with their values; a key of its own wins over one that `<<` merges."""
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == f"{TAG}null":
            raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"found duplicate key {key.value!r}", key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return list({key.value: value for key, value in node.value}.items())


def _to_value(node: yaml.Node, loader: yaml.SafeLoader, text: bool) -> Any:
    """The value of `node`; with `text` plain scalars other than null stay as they are written.

    YAML 1.1 takes 2024_01 for a number, 12:30:45 for another, and yes for true.
    """
    if node.tag not in TAGS:
        raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag!r} is not supported", node.start_mark)
    if isinstance(node, yaml.MappingNode):
        return {key: _to_value(value, loader, text) for key, value in _pairs(node, loader)}
    if isinstance(node, yaml.SequenceNode):
        return [_to_value(value, loader, text) for value in node.value]
    if node.tag in TEXTS or (text and node.tag in NUMBERS):
        return node.value
    if node.tag in NUMBERS and len(node.value) > LONGEST:
        raise ValueError(f"a number of more than {LONGEST} characters")
    return loader.construct_object(node)
