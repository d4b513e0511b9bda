"""The configuration: what wins, what is refused, and what the refusal says."""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.config.load import fingerprint, load_config, shipped, to_yaml
from lesion.config.schema import ALIASES, Config
from lesion.errors import ConfigError, NotFoundError
from lesion.redaction import redact

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(CONFIGS.glob("*/*.yaml"))


def leaves(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields(section):
        value = getattr(section, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def flatten(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def write(folder: Path, text: str | bytes, name: str = "config.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refuse(*overrides: str, files: tuple[Path, ...] = ()) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(files, overrides)
    assert caught.value.exit_code == 2
    return caught.value


DEFAULTS = dict(leaves(Config()))


def test_without_files_and_overrides_there_are_the_defaults() -> None:
    assert load_config() == Config()


def test_later_files_win_over_earlier_ones_and_overrides_over_all(tmp_path: Path) -> None:
    one = write(tmp_path, "seed: 1\ntrainer: {epochs: 11, patience: 1}\nruns: one\n", "one.yaml")
    two = write(tmp_path, "trainer:\n  patience: 2\nruns: two\n", "two.yaml")
    config = load_config([one, two], ["runs=three"])
    assert (config.seed, config.trainer.epochs, config.trainer.patience, config.runs) == (1, 11, 2, "three")
    assert config.trainer.batch_size == Config().trainer.batch_size
    assert load_config([two, one]).trainer.patience == 1


def test_of_two_overrides_of_one_key_the_last_wins() -> None:
    assert load_config(overrides=["seed=1", "seed=2"]).seed == 2


def test_a_later_file_may_repair_a_value_out_of_range(tmp_path: Path) -> None:
    assert load_config([write(tmp_path, "seed: -1\n")], ["seed=3"]).seed == 3


def test_a_list_is_replaced_rather_than_extended() -> None:
    assert load_config(overrides=["data.malignant=[mel]"]).data.malignant == ["mel"]


def test_keys_may_be_written_with_dots_in_a_file(tmp_path: Path) -> None:
    assert load_config([write(tmp_path, "trainer.epochs: 3\n")]).trainer.epochs == 3


def test_two_configurations_share_no_list() -> None:
    for make in (load_config, Config):
        one, two = make(), make()
        one.data.malignant.append("nv")
        assert two.data.malignant == ["akiec", "bcc", "mel"]


def test_unknown_keys_are_reported_all_at_once_with_origin_and_nearest_key(tmp_path: Path) -> None:
    file = write(tmp_path, "trainer:\n  epoch: 3\n  epochs: 3\noptim: {learning_rate: 0.1}\n")
    error = refuse("data.rot=x", "zzzzzzzz=1", "seed=3", files=(file,))
    assert error.message.splitlines() == [
        f"{file}: unknown key 'trainer.epoch'; did you mean 'trainer.epochs'?",
        f"{file}: unknown key 'optim.learning_rate'; did you mean 'optim.lr'?",
        "command line: unknown key 'data.rot'; did you mean 'data.root'?",
        "command line: unknown key 'zzzzzzzz'",
    ]
    assert "--print-config" in error.hint


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("learning_rate", "optim.lr"),
        ("lr", "optim.lr"),
        ("batch_size", "trainer.batch_size"),
        ("data.batch_size", "trainer.batch_size"),
        ("epochs", "trainer.epochs"),
        ("imgsz", "preprocess.size"),
        ("model", "model.tier"),
    ],
)
def test_what_other_tools_call_it_leads_to_our_key(key: str, meant: str) -> None:
    assert refuse(f"{key}=1").message == f"command line: unknown key {key!r}; did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("data.lr", "optim.lr"),
        ("serve.epochs", "trainer.epochs"),
        ("data.size", "preprocess.size"),
        ("tracking.port", "serve.port"),
        ("warmup", "optim.warmup"),
        ("serve.variant", "model.variant"),
        ("optim.precision", "trainer.precision"),
        ("data.learning_rate", "optim.lr"),
        ("trainer.imgsz", "preprocess.size"),
    ],
)
def test_a_right_name_in_the_wrong_section_leads_to_the_right_one(key: str, meant: str) -> None:
    assert refuse(f"{key}=1").message == f"command line: unknown key {key!r}; did you mean {meant!r}?"


@pytest.mark.parametrize("key", DEFAULTS)
def test_a_misspelt_key_leads_to_the_right_one(key: str) -> None:
    word = key[:-1] if len(key.rpartition(".")[2]) > 2 else f"{key}x"
    assert f"unknown key {word!r}; did you mean {key!r}?" in refuse(f"{word}=1").message


def test_every_alias_means_a_key_that_exists() -> None:
    assert set(ALIASES.values()) <= DEFAULTS.keys()
    assert not ALIASES.keys() & DEFAULTS.keys()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainer.epochs=many", "trainer.epochs: Value 'many' of type 'str' could not be converted to Integer"),
        ("trainer.epochs=2.5", "trainer.epochs: Value '2.5' of type 'float' could not be converted to Integer"),
        ("trainer.epochs=true", "trainer.epochs: Value 'True' of type 'bool' could not be converted to Integer"),
        ("optim.lr=fast", "optim.lr: Value 'fast' of type 'str' could not be converted to Float"),
        ("model.pretrained=perhaps", "model.pretrained: Value 'perhaps'"),
        ("optim.lr={a: 1}", "optim.lr: Value '{'a': 1}' of type 'dict' could not be converted to Float"),
        ("data.malignant=mel", "data.malignant: a list expected, got 'mel'; write data.malignant=[mel]"),
        ("data.malignant={a: mel}", "data.malignant: "),
        ("data.malignant=[[mel]]", "data.malignant: "),
        ("data.malignant=[null]", "data.malignant: "),
    ],
)
def test_a_wrong_type_is_refused_with_key_and_origin(override: str, says: str, tmp_path: Path) -> None:
    assert refuse(override).message.startswith(f"command line: {says}")
    key, _, value = override.partition("=")
    file = write(tmp_path, f"{key}: {value}\n")
    assert refuse(files=(file,)).message.startswith(f"{file}: {says}")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainer.epochs=0", "trainer.epochs: at least 1 expected, got 0"),
        ("optim.lr=0", "optim.lr: more than 0 expected, got 0.0"),
        ("optim.lr=1.5", "optim.lr: at most 1 expected, got 1.5"),
        ("seed=-1", "seed: at least 0 expected, got -1"),
        ("seed=99999999999999999999", f"seed: at most {2**31} expected, got 99999999999999999999"),
        ("trainer.max_minutes=0", "trainer.max_minutes: more than 0 expected, got 0.0"),
        (
            "model.tier=resnt",
            "model.tier: one of baseline, resnet, efficientnet (did you mean 'resnet'?) expected, got 'resnt'",
        ),
        ("preprocess.filter=zzz", "preprocess.filter: one of bilinear, bicubic, lanczos expected, got 'zzz'"),
    ],
)
def test_a_value_out_of_range_is_refused_with_key_and_origin(override: str, says: str, tmp_path: Path) -> None:
    assert refuse(override).message == f"command line: {says}"
    key, _, value = override.partition("=")
    file = write(tmp_path, f"{key}: {value}\n")
    assert refuse(files=(file,)).message == f"{file}: {says}"


@pytest.mark.parametrize("value", ["nan", ".nan", "inf", "-inf", ".inf", "-.inf", "1e999"])
@pytest.mark.parametrize("key", ["optim.lr", "data.memory_gb", "trainer.max_minutes", "trainer.gradient_clip"])
def test_nan_and_infinity_are_refused(key: str, value: str) -> None:
    assert refuse(f"{key}={value}").message.startswith(f"command line: {key}: a finite number expected, got ")


def test_all_kinds_of_problems_come_in_one_error(tmp_path: Path) -> None:
    file = write(tmp_path, "optim: {lr: fast, warmup: 2}\nsede: 1\n")
    assert refuse("trainer.epochs=0", "data.root=${nope}", "runs=???", files=(file,)).message.splitlines() == [
        f"{file}: unknown key 'sede'; did you mean 'seed'?",
        f"{file}: optim.lr: Value 'fast' of type 'str' could not be converted to Float",
        "command line: runs: Missing mandatory value: runs",
        "command line: data.root: there is no key 'nope' to refer to",
        f"{file}: optim.warmup: at most 0.9 expected, got 2.0",
        "command line: trainer.epochs: at least 1 expected, got 0",
    ]


@pytest.mark.parametrize("word", ["epochs", "--epochs", "=5", "", "trainer.epochs:5"])
def test_a_word_without_key_or_equals_sign_is_refused_with_an_example(word: str) -> None:
    error = refuse(word)
    assert error.message == f"command line: {word!r} is not of the form key=value"
    assert error.hint == "for example: trainer.epochs=5"


def test_a_section_given_one_value_names_the_keys_inside(tmp_path: Path) -> None:
    says = "'optim' is a section; set one of optim.lr, optim.weight_decay, optim.warmup, "
    says += "optim.layer_decay, optim.freeze, optim.ema"
    assert refuse("optim=adam").message == f"command line: {says}"
    file = write(tmp_path, "optim: adam\n")
    assert refuse(files=(file,)).message == f"{file}: {says}"


def test_null_is_refused_where_a_value_is_needed(tmp_path: Path) -> None:
    assert refuse("trainer.epochs=null").message.startswith("command line: trainer.epochs: ")
    assert refuse("trainer.epochs=").message.startswith("command line: trainer.epochs: ")
    file = write(tmp_path, "trainer:\n  epochs:\n")
    assert refuse(files=(file,)).message.startswith(f"{file}: trainer.epochs: ")


def test_null_unsets_what_is_optional() -> None:
    config = load_config(overrides=["data.processed=x", "trainer.max_minutes=3", "data.processed=null"])
    assert (config.data.processed, config.trainer.max_minutes) == (None, 3.0)
    assert load_config(overrides=["trainer.max_minutes=3", "trainer.max_minutes=null"]).trainer.max_minutes is None


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "0.001", ".001"])
def test_scientific_notation_is_a_number(text: str, tmp_path: Path) -> None:
    assert load_config(overrides=[f"optim.lr={text}"]).optim.lr == 0.001
    assert load_config([write(tmp_path, f"optim: {{lr: {text}}}\n")]).optim.lr == 0.001


def test_a_whole_number_becomes_a_float_where_one_is_meant() -> None:
    value = load_config(overrides=["data.memory_gb=2"]).data.memory_gb
    assert (value, type(value)) == (2.0, float)


@pytest.mark.parametrize(
    ("override", "value"),
    [("2", "2"), ("0,1", "0,1"), ("auto", "auto"), ("'3'", "3")],
)
def test_text_stays_text_although_it_looks_like_a_number(override: str, value: str) -> None:
    assert load_config(overrides=[f"trainer.devices={override}"]).trainer.devices == value


@pytest.mark.parametrize("text", ["[", '"x', "{a", "'x' y", "[x"])
def test_an_override_that_is_no_yaml_is_refused_with_its_key(text: str) -> None:
    assert refuse(f"seed={text}").message == f"command line: seed: {text!r} is not a YAML value"


def test_what_a_list_is_said_to_be_written_as_is_taken() -> None:
    told = refuse("data.malignant=mel, bcc").message.rpartition("; write ")[2]
    assert load_config(overrides=[told]).data.malignant == ["mel", "bcc"]


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = write(tmp_path, "data: {root: ~/ham, processed: '~'}\nserve: {canary: ~/b.onnx=0.1}\nname: ~x\n")
    config = load_config([file], ["runs=~/runs", "tracking.store=~/a~b.db", "model.weights=${data.root}/w", "name=~"])
    assert config.data.root == f"{tmp_path}/ham"
    assert (config.data.processed, config.runs) == (str(tmp_path), f"{tmp_path}/runs")
    assert (config.serve.canary, config.tracking.store) == (f"{tmp_path}/b.onnx=0.1", f"{tmp_path}/a~b.db")
    assert (config.model.weights, config.name) == (f"{tmp_path}/ham/w", None)
    assert load_config([file], ["data.root=~"]).data.root == str(tmp_path)
    for plain in ("~no-such-user/x", "x/~", "./~", "~$draft"):
        assert load_config(overrides=[f"data.root={plain}"]).data.root == plain


def test_a_tilde_without_a_home_is_refused_rather_than_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no HOME, and a user without an entry
    says = "command line: data.root: this user has no home folder to put in place of ~ in '~/ham'; write the whole path"
    assert refuse("data.root=~/ham").message == says


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        load_config([tmp_path / "nope.yaml"])
    assert str(tmp_path / "nope.yaml") in caught.value.message
    assert (caught.value.hint, caught.value.exit_code) == ("check the path", 66)


@pytest.mark.parametrize(
    "content",
    [
        b"data:\n  root: \xe9\n",
        b"\xff\xfe\x00",
        b"data:\n\troot: x\n",
        b"data: [1\n",
        b"seed: 1\x00\n",
        b"seed: 1\n---\nseed: 2\n",
        b"data: &a\n  root: *a\n",
        b"? [a, b]\n: c\n",
        b"? null\n: c\n",
    ],
    ids=[
        "latin-1", "utf-16", "tab", "unclosed", "NUL", "two documents", "recursive", "list as key", "null as key",
    ],
)  # fmt: skip
def test_a_file_that_is_no_yaml_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    file = write(tmp_path, content)
    assert refuse(files=(file,)).message.startswith(f"{file}: not readable as YAML: ")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    assert refuse(files=(tmp_path,)).message.startswith(f"{tmp_path}: not readable as YAML: ")


def test_a_list_at_the_top_level_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "- seed\n- 1\n")
    assert refuse(files=(file,)).message == f"{file}: a mapping of keys to values expected, got list"
    file = write(tmp_path, "5\n")
    assert refuse(files=(file,)).message == f"{file}: a mapping of keys to values expected, got a single value"


@pytest.mark.parametrize(
    "content", ["", "# nothing\n", "---\n", "data:\n", "data: {}\nmodel:\n", "\ufeff# byte order mark\n"]
)
def test_an_empty_file_or_section_changes_nothing(content: str, tmp_path: Path) -> None:
    assert load_config([write(tmp_path, content)]) == Config()


@pytest.mark.parametrize(
    "content", ["seed: 1\nseed: 2\n", "data:\n  val: 0.1\n  val: 0.2\n", "data:\n  val: 0.1\ndata:\n  test: 0.2\n"]
)
def test_a_key_given_twice_in_a_file_is_refused(content: str, tmp_path: Path) -> None:
    message = refuse(files=(write(tmp_path, content),)).message
    assert "found duplicate key" in message
    assert "line 2" in message or "line 3" in message


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system"])
def test_python_in_yaml_is_refused_and_not_run(tag: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    value = f'{tag} ["touch {canary}"]'
    file = write(tmp_path, f"data:\n  root: {value}\n")
    assert refuse(files=(file,)).message.startswith(f"{file}: not readable as YAML: ")
    assert load_config(overrides=[f"data.root={value}"]).data.root == value
    assert refuse(f"seed={value}").message == f"command line: seed: {value!r} is not a YAML value"
    assert not canary.exists()


@pytest.mark.parametrize(
    "value",
    ["${nope}", "${data.root}", "${data}", "???", "${nosuchresolver:x}"],
    ids=["unknown", "itself", "its section", "OmegaConf's missing", "unknown resolver"],
)
def test_an_interpolation_that_leads_nowhere_is_refused(value: str, tmp_path: Path) -> None:
    assert refuse(f"data.root={value}").message.startswith("command line: data.root: ")
    file = write(tmp_path, f"data:\n  root: {value}\n")
    assert refuse(files=(file,)).message.startswith(f"{file}: data.root: ")


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("data.root=${runs}", "runs=${data.root}"), "data.root"),
        (("trainer.devices=2", "trainer.epochs=${trainer.devices}", "trainer.devices=auto"), "trainer.epochs"),
        (('data.malignant=[mel, "${nope}"]',), "data.malignant"),
    ],
    ids=["circle", "target changed later", "inside a list"],
)
def test_an_interpolation_that_fails_only_at_the_end_is_refused(overrides: tuple[str, ...], key: str) -> None:
    assert refuse(*overrides).message.startswith(f"command line: {key}: ")


@pytest.mark.parametrize(
    "value",
    ["[" * 10_000 + "]" * 10_000, "[" * 10_000, "{a: " * 10_000 + "1" + "}" * 10_000],
    ids=["closed", "unclosed", "mappings"],
)
def test_deep_nesting_is_refused(value: str, tmp_path: Path) -> None:
    file = write(tmp_path, f"data:\n  root: {value}\n")
    assert refuse(files=(file,)).message.startswith(f"{file}: not readable as YAML: ")
    assert refuse(f"data.malignant={value}").message.startswith("command line: data.malignant: ")


def test_aliases_that_multiply_are_refused_at_once(tmp_path: Path) -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 7)]
    file = write(tmp_path, "\n".join(["a0: &a0 [x, x, x]", *levels]))
    assert refuse(files=(file,)).message.startswith(f"{file}: ")


@pytest.mark.parametrize("overrides", [("data.val=0.5", "data.test=0.5"), ("data.test=0.5", "data.val=0.5", "seed=-1")])
def test_validation_and_test_must_leave_images_for_training(overrides: tuple[str, ...]) -> None:
    says = "command line: data.val and data.test leave nothing for training"
    assert refuse(*overrides).message.splitlines()[-1] == says


def test_the_largest_validation_and_test_that_leave_something_are_accepted() -> None:
    assert load_config(overrides=["data.val=0.5", "data.test=0.49"]).data.test == 0.49


def test_mixup_and_cutmix_must_not_claim_more_than_all_images(tmp_path: Path) -> None:
    says = "augment.mixup and augment.cutmix: at most 1 together expected, got 1.1"
    file = write(tmp_path, "augment: {mixup: 0.6}\n")
    assert refuse("augment.cutmix=0.5", files=(file,)).message == f"command line: {says}"
    assert refuse(files=(write(tmp_path, "augment: {mixup: 0.6, cutmix: 0.5}\n"),)).message == f"{file}: {says}"
    assert load_config(overrides=["augment.mixup=0.7", "augment.cutmix=0.3"]).augment.cutmix == 0.3


def change(value: Any, key: str) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "nv"]
    return 3.0 if key.endswith("minutes") else f"{value}x"


@pytest.mark.parametrize("key", DEFAULTS)
def test_the_fingerprint_changes_with_every_value(key: str) -> None:
    config = Config()
    section, _, name = key.rpartition(".")
    target = getattr(config, section) if section else config
    setattr(target, name, change(DEFAULTS[key], key))
    assert fingerprint(config) != fingerprint(Config())
    assert len(fingerprint(config)) == 12


def test_the_fingerprint_is_the_same_for_the_same_values() -> None:
    assert fingerprint(load_config(overrides=["seed=1", "runs=x"])) == fingerprint(
        load_config(overrides=["runs=x", "seed=1"])
    )


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("seed=3", "optim.lr=1e-5", "data.malignant=[mel, bcc]", "data.processed=x", "trainer.max_minutes=1.5"),
        ("trainer.devices='2'", "runs=' '", "data.root='a: b # c'", "model.weights='null'", "tracking.project='1e3'"),
        ("runs=Läsionen/β", "data.root='C:\\data'", "data.processed='~'", "tracking.project='yes'", "serve.host='::1'"),
    ],
    ids=["defaults", "numbers", "text like other types", "odd text"],
)
def test_what_is_written_as_yaml_is_read_back_equal(overrides: tuple[str, ...], tmp_path: Path) -> None:
    config = load_config(overrides=overrides)
    assert load_config([write(tmp_path, to_yaml(config))]) == config
    assert yaml.safe_load(to_yaml(config)).keys() == asdict(config).keys()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shipped_file_loads_and_holds_only_differences(path: Path) -> None:
    config = dict(leaves(load_config([path])))
    given = dict(flatten(yaml.safe_load(path.read_text("utf-8"))))
    assert given
    for key in given:
        assert config[key] != DEFAULTS[key], f"{path}: {key} is the default already"
    assert {key for key in config if config[key] != DEFAULTS[key]} == given.keys()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shipped_file_starts_with_commands_that_use_it(path: Path) -> None:
    text = path.read_text("utf-8")
    head = text[: text.index("\n" + next(iter(yaml.safe_load(text))))].splitlines()
    assert all(line.startswith("#") for line in head)
    commands = [line.lstrip("# ").split() for line in head if line.lstrip("# ").startswith("lesion ")]
    assert commands
    for words in commands:
        assert f"--{path.parent.name} {path.stem}" in " ".join(words)
        load_config([path], [word for word in words if "=" in word])


def test_there_is_a_shipped_file_for_each_tier_and_environment() -> None:
    assert {f"{path.parent.name}/{path.stem}" for path in SHIPPED} == {
        "tier/baseline", "tier/resnet", "tier/efficientnet", "env/development", "env/staging", "env/production",
    }  # fmt: skip


@pytest.mark.parametrize("tier", ["baseline", "resnet", "efficientnet"])
@pytest.mark.parametrize("env", [None, "development", "staging", "production"])
def test_every_tier_goes_with_every_environment(tier: str, env: str | None) -> None:
    config = load_config([shipped("tier", tier), *([shipped("env", env)] if env else [])])
    assert config.model.tier == tier


def test_a_misspelt_shipped_file_leads_to_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        shipped("tier", "resnt")
    assert caught.value.message == "unknown tier 'resnt'; did you mean 'resnet'?"
    assert caught.value.hint == "one of: baseline, efficientnet, resnet"


@pytest.mark.parametrize("name", ["../env/staging", "", "/etc/passwd", "Baseline.yaml"])
def test_only_the_shipped_names_are_accepted(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown tier"):
        shipped("tier", name)


TEXTS = ["2024_01", "12:30:45", "yes", "0123456", "1e5", "0x1F", "1_000.5", "2024-01-31", "off", "=", ".inf"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_yaml_takes_for_something_else_stays_as_it_was_typed(text: str, tmp_path: Path) -> None:
    config = load_config(overrides=[f"data.root={text}", f"data.malignant=[{text}]"])
    assert (config.data.root, config.data.malignant) == (text, [text])
    assert load_config([write(tmp_path, f"data: {{root: {text}, malignant: [{text}]}}\n")]) == config
    assert load_config([write(tmp_path, to_yaml(config))]) == config


@pytest.mark.parametrize(
    "text",
    ["[2024] new", "[x]", "{y}", "'t Zand", "'", '"x',
     "q/Study # 2", "x ", " x", "a: b", "@x", "*x", "&x", "!x", "- x", "x\ny", "%x", "C:\\a"],
)  # fmt: skip
def test_a_text_on_the_command_line_stays_as_it_was_typed(text: str, tmp_path: Path) -> None:
    config = load_config(overrides=[f"data.root={text}"])
    assert config.data.root == text
    assert load_config([write(tmp_path, to_yaml(config))]) == config


def test_a_text_may_still_be_quoted_or_null() -> None:
    assert load_config(overrides=['data.processed="a # b"', "data.root='[x]'"]).data.processed == "a # b"
    assert load_config(overrides=["data.processed=x", "data.processed="]).data.processed is None
    assert refuse("runs=null").message.startswith("command line: runs: ")


EXPRESSIONS = [
    "${oc.env:SECRET}", "x${oc.env:SECRET,y}", "${oc.decode:${oc.env:SECRET}}", "${data.${oc.env:SECRET}}",
    "${ oc.env:SECRET }", "${nope:x}", "${nope", "\\\\${oc.env:SECRET}", "${.root}", "${data[root]}",
]  # fmt: skip


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_is_refused_and_reads_no_secret(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    file = write(tmp_path, f"data: {{root: x}}\nname: '{text}'\n")
    for error, origin in ((refuse(f"name={text}"), "command line"), (refuse(files=(file,)), str(file))):
        assert error.message.startswith(f"{origin}: name: ")
        assert "only references to other keys, such as ${data.root}" in error.message
        assert "hunter2" not in error.message
    assert "only references" in refuse(f"data.malignant=[mel, '{text}']").message


def test_a_reference_takes_the_value_of_another_key(tmp_path: Path) -> None:
    file = write(
        tmp_path, "seed: 7\ndata: {root: a, processed: '${data.root}/p-${seed}'}\noptim: {freeze: '${seed}'}\n"
    )
    config = load_config([file], ["data.root=${runs}/b", "runs=c"])
    assert (config.data.processed, config.optim.freeze) == ("c/b/p-7", 7)
    assert load_config([file], ["data.processed=plain"]).data.processed == "plain"


@pytest.mark.parametrize("text", ["${runs}", "a${oc.env:HOME}b", "$${", "\\${x}", "\\\\${x}", "${", "a\\", "$\\{"])
def test_a_dollar_and_brace_can_be_meant(text: str, tmp_path: Path) -> None:
    config = Config(runs=text, data=replace(Config().data, malignant=[text]))
    assert load_config([write(tmp_path, to_yaml(config))]) == config
    assert load_config(overrides=["runs=\\${runs}"]).runs == "${runs}"


def test_references_that_multiply_are_refused_at_once() -> None:
    keys = ["data.root", "data.processed", "model.weights", "tracking.store", "tracking.artifacts", "tracking.project"]
    words = [f"{key}=${{{other}}}" for key, other in zip(keys, [*keys[1:], "runs"], strict=True)]
    many = [f"{key}=" + f"${{{other}}}" * 100 for key, other in zip(keys, [*keys[1:], "runs"], strict=True)]
    assert load_config(overrides=words).data.root == "runs"
    assert "more than 4096 characters" in refuse(*many).message
    assert load_config(overrides=[*many, "runs=''"]).data.root == ""


@pytest.mark.parametrize(
    "content",
    [
        "seed: " + "9" * 5000, "seed: 0x" + "f" * 5000, "optim: {lr: " + "1" * 500 + "}",
        "seed: " + ":".join("1" * 9999),
        "x: &a [1]\nc: {<<: [*a]}", "# " + "x" * 70_000, "a: " + "[1, " * 9 + "x",
        "seed: 2024-99-99", "seed: !!set {1}", "seed: !!binary x",
    ],
    ids=range(10),
)  # fmt: skip
def test_a_hostile_file_is_refused_by_name(content: str, tmp_path: Path) -> None:
    file = write(tmp_path, content)
    assert refuse(files=(file,)).message.startswith(f"{file}: ")


def test_merged_keys_that_multiply_are_refused_at_once(tmp_path: Path) -> None:
    levels = [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 9)]
    file = write(tmp_path, "\n".join(["a0: &a0 {x: 1}", *levels]))
    assert refuse(files=(file,)).message == f"{file}: not readable as YAML: more than 10000 values"


def test_an_alias_means_what_it_stands_for(tmp_path: Path) -> None:
    file = write(tmp_path, "trainer: {epochs: &n 3, patience: *n}\ndata: &d {val: 0.2}\neval: {stress_images: 50}\n")
    assert load_config([file]).trainer.patience == 3


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_a_pipe_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        assert refuse(files=(path,)).message.startswith(f"{path}: not readable as YAML: it is a ")


NAMES = [
    "", ".", "..", "../x", "a/b", "/abs", "a\\b", "a\0b", "-x", ".x", " x", "x ", "a\nb", "a\x1b[31m", "\u202ex",
    "x" * 129,
    "ü" * 65, "\udcff",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_of_a_run_is_one_part_of_a_path(name: str, tmp_path: Path) -> None:
    file = write(tmp_path, yaml.safe_dump({"name": name}, allow_unicode=False))
    assert refuse(files=(file,)).message.startswith(f"{file}: name: ")
    if name:  # which means no name there
        assert refuse(f"name={name}").message.startswith("command line: name: ")


@pytest.mark.parametrize("name", ["a", "first try", "12:30:45", "0123", "ü" * 64, "皮膚", "a.b-c_d", "yes"])
def test_other_names_are_taken(name: str) -> None:
    assert load_config(overrides=[f"name={name}"]).name == name


def test_text_that_can_be_no_path_is_refused() -> None:
    for value in ("a\0b", "a\udcff"):
        assert refuse(f"data.root={value}").message.startswith("command line: data.root: Unicode text without NUL ")


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.sampled_from(TEXTS))
def test_any_text_comes_back_from_a_written_configuration(text: str) -> None:
    config = Config(
        tracking=replace(Config().tracking, project=text), data=replace(Config().data, malignant=[text, f"${{{text}"])
    )
    with tempfile.TemporaryDirectory() as folder:
        assert load_config([write(Path(folder), to_yaml(config))]) == replace(
            config, tracking=replace(config.tracking, project=redact(text))
        )
