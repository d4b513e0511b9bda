import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.engine import URL

from lesion.artifact import Artifact
from lesion.errors import ArtifactError, CheckFailed, ConfigError, NotFoundError, RemoteError, StoreError
from lesion.evaluation import Evaluation as Findings
from lesion.files import sha256
from lesion.records import Estimate
from lesion.run import Run
from lesion.tracking.database import store_url
from lesion.tracking.registry import Registry
from lesion.tracking.store import Store
from lesion.tracking.versions import Evaluation
from tests.conftest import GOLDEN
from tests.engine.evaluation.sample import make_evaluation

if TYPE_CHECKING:
    from tests.bucket import Bucket

SPLIT = "5p117"
SAMPLE = make_evaluation(60)


def write_model(path: Path, auroc: float | None = 0.8, **provenance: Any) -> Path:
    """A whole model file with that validation AUROC."""
    tiny = Artifact.read(GOLDEN / "tiny.onnx")
    facts = {"split": SPLIT, "validation": {"auroc": auroc, "sensitivity": 0.95}, **provenance}
    path.write_bytes(Artifact.pack(tiny.graph, tiny.with_provenance(**facts))[1])
    return path


def report(model: Path, auroc: float, split: str = "test", fingerprint: str = SPLIT) -> Findings:
    estimate = Estimate(auroc, auroc - 0.1, auroc + 0.1)
    identity = Artifact.read(model).identity
    return replace(SAMPLE, model=identity, split=split, fingerprint=fingerprint, metrics={"auroc": estimate})


def put_report(run: Run, model: Path, auroc: float) -> None:
    text = {"model": Artifact.read(model).identity, "fingerprint": SPLIT, "metrics": {"auroc": {"value": auroc}}}
    run.report("test").write_text(json.dumps(text))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def registry(runs: Path) -> Iterator[Registry]:
    with Registry.open(None, runs, "create") as opened:
        yield opened


@pytest.fixture
def team_registry(team: URL, runs: Path) -> Iterator[Registry]:
    with Registry.open(team.render_as_string(hide_password=False), runs, "create") as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest) -> Registry:
    """A registry in each kind of store."""
    name = "registry" if request.param == "sqlite" else "team_registry"
    opened = request.getfixturevalue(name)
    assert isinstance(opened, Registry)
    return opened


def test_versions_count_from_one_and_a_known_file_stays_the_same(either: Registry, tmp_path: Path) -> None:
    first, second = write_model(tmp_path / "a.onnx", 0.8), write_model(tmp_path / "b.onnx", 0.9)
    assert [either.register(path, "ham").version for path in (first, second, first)] == [1, 2, 1]
    assert either.register(first, "other").reference == "other@1"
    listed = either.list_versions()
    assert [version.reference for version in listed] == ["ham@2", "ham@1", "other@1"]
    assert listed[1].sha256 == sha256(first.read_bytes())
    assert listed[1].bytes == first.stat().st_size
    assert listed[1].evaluations == [Evaluation("val", SPLIT, {"auroc": 0.8, "sensitivity": 0.95})]
    assert either.find("ham@2") == listed[0]


def test_the_file_survives_its_run(registry: Registry, runs: Path) -> None:
    run = Run.create(runs, "baseline")
    content = write_model(run.model).read_bytes()
    version = registry.register(run.model, "ham")
    shutil.rmtree(run.path)
    kept = registry.locate(version)
    assert kept == runs / "models" / f"{sha256(content)}.onnx"
    assert kept.read_bytes() == content


def test_files_lie_in_a_store_of_artifacts_if_one_is_named(
    bucket: "type[Bucket]", either: Registry, runs: Path, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model.onnx")
    content, sha = model.read_bytes(), sha256(model.read_bytes())
    version = either.register(model, "ham", "memory://bucket/models")
    assert version.lineage["file"] == f"memory://bucket/models/{sha}.onnx#sha256={sha}"
    assert not (runs / "models").exists()
    model.unlink()
    assert either.locate(version).read_bytes() == content
    bucket.away = True
    assert either.locate(either.find("ham@1")).read_bytes() == content  # from the cache
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(RemoteError):
        either.locate(version)
    bucket.away = False
    bucket.put(write_model(tmp_path / "other.onnx", 0.9).read_bytes(), f"/bucket/models/{sha}.onnx")
    with pytest.raises(ArtifactError, match="is not the expected file"):
        either.locate(version)


def test_a_row_that_names_another_file_is_refused(
    bucket: "type[Bucket]", either: Registry, runs: Path, tmp_path: Path
) -> None:
    version = either.register(write_model(tmp_path / "model.onnx"), "ham", "memory://bucket/models")
    bucket.put(write_model(tmp_path / "other.onnx", 0.9).read_bytes(), "/bucket/other.onnx")
    with pytest.raises(StoreError, match="the address of ham@1 is not that of its file"):
        either.locate(replace(version, lineage={**version.lineage, "file": "memory://bucket/other.onnx"}))
    (runs.parent / "x.onnx").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="ham@1 has no SHA-256"):
        either.locate(replace(version, sha256="../../x"))


def test_a_registered_file_can_move_to_a_store_of_artifacts(
    bucket: "type[Bucket]", registry: Registry, runs: Path, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model.onnx")
    registry.register(model, "ham")
    again = registry.register(model, "ham", "memory://bucket/models")
    assert again.version == 1
    assert again.lineage["model"]
    shutil.rmtree(runs / "models")
    assert registry.locate(registry.find("ham@1")).read_bytes() == model.read_bytes()


def test_lineage_says_where_a_version_comes_from(registry: Registry, runs: Path) -> None:
    run = Run.create(runs, "resnet")
    with Store.open(store_url(None, runs)) as store:
        store.start(run.path, "resnet", {}, {"commit": "c0ffee", "dirty": "no", "cores": "2"})
    facts = {"run": run.path.name, "config": "abc", "lesion": "1.2", "checkpoint": "best.ckpt", "data": "ham"}
    parent = registry.register(write_model(run.model, **facts), "ham")
    assert parent.lineage == {
        "model": "tiny", "split": SPLIT, "folder": run.path.as_posix(), "commit": "c0ffee", "dirty": "no", **facts,
    }  # fmt: skip
    quantized = write_model(run.quantized, **facts, quantization={"recipe": "int8", "source": parent.sha256})
    assert registry.register(quantized, "ham").lineage["quantized_from"] == parent.sha256


def test_evaluations_of_the_run_count_when_they_are_of_this_file(registry: Registry, runs: Path) -> None:
    run = Run.create(runs, "baseline")
    write_model(run.model), write_model(run.quantized, 0.7)
    put_report(run, run.quantized, 0.75)
    assert [each.split for each in registry.register(run.model, "ham").evaluations] == ["val"]
    put_report(run, run.model, 0.85)
    again = registry.register(run.model, "ham")
    assert again.version == 1
    assert again.evaluations[0] == Evaluation("test", SPLIT, {"auroc": 0.85})


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model": 1}', '{"model": "%s", "fingerprint": 1, "metrics": [2]}'])
def test_a_report_that_is_none_is_left_out(text: str, registry: Registry, runs: Path) -> None:
    run = Run.create(runs, "baseline")
    identity = Artifact.read(write_model(run.model)).identity
    run.report("test").write_text(text.replace("%s", identity))
    assert [each.split for each in registry.register(run.model, "ham").evaluations] == ["val"]


def test_what_a_file_says_of_itself_is_not_trusted(either: Registry, tmp_path: Path) -> None:
    odd = {"auroc": "high", "sensitivity": True, "loss": [1]}
    hostile = write_model(
        tmp_path / "a.onnx", run="\x1b[2J\0\n../..", validation=odd, quantization=[1], data={"a": "b"}
    )
    version = either.register(hostile, "ham")
    assert version.lineage["run"] == r"\x1b[2J\x00\n../.."
    assert version.evaluations[0].figures == {"auroc": None, "sensitivity": 1.0, "loss": None}


@pytest.mark.parametrize(
    "name",
    ["", ".", "../ham", "a/b", "a\\b", "/ham", "ham ", "h m", "-ham", "hämatom", "ham\n", "h\0", "h@1", "x" * 65, "１"],
)  # fmt: skip
def test_a_hostile_name_is_refused(name: str, registry: Registry, tmp_path: Path) -> None:
    model = write_model(tmp_path / "a.onnx")
    with pytest.raises(ConfigError, match="is no name of a model"):
        registry.register(model, name)
    with pytest.raises(ConfigError, match="is no name of a model"):
        registry.promote(name, "1", "production")
    assert registry.list_versions() == []
    assert not registry.folder.exists()


def test_a_damaged_file_is_not_registered(registry: Registry, tmp_path: Path) -> None:
    model = write_model(tmp_path / "a.onnx")
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ArtifactError):
        registry.register(model, "ham")
    with pytest.raises(NotFoundError, match="no such model file"):
        registry.register(tmp_path / "absent.onnx", "ham")
    assert registry.list_versions() == []


@pytest.mark.parametrize(
    ("reference", "error", "said"),
    [
        ("ham@2", NotFoundError, "the newest is 1"),
        ("ham@0", NotFoundError, "the newest is 1"),
        ("ham@99999999999", ConfigError, "unknown alias"),
        ("ham@production", NotFoundError, "ham@production does not exist"),
        ("ham@prodction", ConfigError, "did you mean 'production'"),
        ("ham@", ConfigError, "unknown alias ''"),
        ("ham@-1", ConfigError, "unknown alias"),
        ("ham@¹", ConfigError, "unknown alias"),
        ("hamm@1", NotFoundError, "did you mean 'ham'"),
        ("@1", ConfigError, "is no name"),
        ("ham", ConfigError, "'ham' names no version"),
        ("nix", NotFoundError, "no model 'nix' is registered"),
        ("ham@1@1", ConfigError, "is no name"),
        ("'; DROP TABLE model_versions; --@1", ConfigError, "is no name"),
    ],
)
def test_a_reference_to_nothing_is_a_clear_error(
    reference: str, error: type[Exception], said: str, registry: Registry, tmp_path: Path
) -> None:
    registry.register(write_model(tmp_path / "a.onnx"), "ham")
    with pytest.raises(error) as caught:
        registry.find(reference)
    assert said in str(caught.value)


def test_a_changed_or_missing_file_is_never_handed_out(registry: Registry, tmp_path: Path) -> None:
    model = write_model(tmp_path / "a.onnx")
    version = registry.register(model, "ham")
    kept = registry.locate(version)
    kept.write_bytes(write_model(tmp_path / "b.onnx", 0.1).read_bytes())  # whole, but another
    with pytest.raises(ArtifactError, match="no longer the registered one"):
        registry.locate(version)
    with pytest.raises(ArtifactError, match="no longer the registered one"):
        registry.promote("ham", "1", "production")
    kept.unlink()
    with pytest.raises(NotFoundError, match="ham@1 is missing") as caught:
        registry.locate(version)
    assert caught.value.hint == "lesion models register FILE --name ham"
    registry.register(model, "ham")
    assert registry.locate(version).read_bytes() == model.read_bytes()


def test_an_alias_moves_and_every_move_is_recorded(either: Registry, tmp_path: Path) -> None:
    for i in (1, 2):
        either.register(write_model(tmp_path / "a.onnx", 0.5 + i / 10), "ham")
    either.promote("ham", "1", "staging")
    either.promote("ham", "staging", "production")
    either.promote("ham", "2", "production")
    assert either.find("ham@production").version == 2
    assert either.find("ham@staging").version == 1
    assert either.find("ham@1").aliases == ["staging"]
    either.promote("ham", "2", "production")  # there already
    moves = [(each.alias, each.previous, each.version, each.forced) for each in either.list_promotions("ham")]
    assert moves == [("production", 1, 2, None), ("production", None, 1, None), ("staging", None, 1, None)]
    times = [each.promoted for each in either.list_promotions("ham")]
    assert times == sorted(times, reverse=True)
    with pytest.raises(ConfigError, match="unknown alias 'live'"):
        either.promote("ham", "1", "live")


def test_a_worse_model_is_refused_unless_forced(either: Registry, tmp_path: Path) -> None:
    for auroc in (0.8, 0.79):
        either.register(write_model(tmp_path / "a.onnx", auroc), "ham")
    either.promote("ham", "1", "production")
    with pytest.raises(CheckFailed, match=r"ham@2 is worse than ham@1 in production: val AUROC 0\.7900") as caught:
        either.promote("ham", "2", "production")
    assert "--force" in caught.value.hint
    assert either.find("ham@production").version == 1
    done = either.promote("ham", "2", "production", force=True)
    assert done.forced
    assert "is worse" in done.forced
    assert either.list_promotions("ham")[0] == done


def test_the_test_split_decides_where_both_know_it(registry: Registry, tmp_path: Path) -> None:
    for auroc in (0.8, 0.9):
        registry.register(write_model(tmp_path / f"{auroc}.onnx", auroc), "ham")
    registry.promote("ham", "1", "production")
    registry.record(registry.find("ham@1"), report(tmp_path / "0.8.onnx", 0.85))
    registry.record(registry.find("ham@2"), report(tmp_path / "0.9.onnx", 0.99, fingerprint="other"))
    registry.promote("ham", "2", "staging")  # nothing to replace
    registry.record(registry.find("ham@2"), report(tmp_path / "0.9.onnx", 0.5))
    registry.record(registry.find("ham@2"), report(tmp_path / "0.9.onnx", 0.84))  # the later measurement counts
    with pytest.raises(CheckFailed, match=r"test AUROC 0\.8400, at least 0\.8500 expected"):
        registry.promote("ham", "2", "production")
    registry.record(registry.find("ham@2"), report(tmp_path / "0.9.onnx", 0.85))
    registry.promote("ham", "2", "production")


@pytest.mark.parametrize("other", [{"split": "other"}, {"validation": {"auroc": None}}, {"split": None}])
def test_models_that_cannot_be_compared_are_refused(other: dict[str, Any], registry: Registry, tmp_path: Path) -> None:
    registry.register(write_model(tmp_path / "a.onnx", 0.1), "ham")
    registry.register(write_model(tmp_path / "b.onnx", 0.9, **other), "ham")
    registry.promote("ham", "1", "production")
    with pytest.raises(CheckFailed, match=r"ham@2 cannot be compared with ham@1 in production: .* different splits"):
        registry.promote("ham", "2", "production")
    assert registry.promote("ham", "2", "production", force=True).forced


def test_promotions_at_once_come_one_after_the_other(either: Registry, runs: Path, tmp_path: Path) -> None:
    """The best of three must end in production, whoever comes first: a worse one is compared with what is there."""
    for i in range(3):
        either.register(write_model(tmp_path / "a.onnx", 0.5 + i / 10), "ham")
    either.promote("ham", "1", "production")
    start, errors = threading.Barrier(6), []

    def promote(word: str) -> None:
        start.wait()
        try:
            either.promote("ham", word, "production")
        except CheckFailed:
            pass
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=promote, args=(word,)) for word in "232323"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert either.find("ham@production").version == 3
    moves = [(each.previous, each.version) for each in reversed(either.list_promotions("ham"))]
    assert [previous for previous, _ in moves] == [None, *(version for _, version in moves[:-1])]


@pytest.mark.slow
def test_registrations_at_once_get_numbers_of_their_own(runs: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lesion.tracking.registry import Registry\n"
        "with Registry.open(None, Path(sys.argv[1]), 'create') as registry:\n"
        "    for path in sys.argv[2:]:\n"
        "        registry.register(Path(path), 'ham')\n"
    )
    paths = [str(write_model(tmp_path / f"{i}.onnx", i / 100)) for i in range(12)]
    processes = [subprocess.Popen([sys.executable, "-c", code, str(runs), *paths[i::3]]) for i in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    with Registry.open(None, runs, "read") as registry:
        assert sorted(version.version for version in registry.list_versions("ham")) == list(range(1, 13))


def test_a_store_from_before_the_registry_has_no_models(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lesion.tracking.database import store_url\n"
        "from lesion.tracking.store import Store\n"
        "Store.open(store_url(None, Path(sys.argv[1]))).close()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    with Registry.open(None, tmp_path, "read") as registry:
        assert registry.list_versions() == []
        with pytest.raises(NotFoundError, match="no model 'ham' is registered"):
            registry.find("ham@1")
    with Registry.open(None, tmp_path, "write") as registry:
        assert registry.register(write_model(tmp_path / "a.onnx"), "ham").version == 1


def test_no_store_no_models(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Registry.open(None, tmp_path / "absent", "read")
    assert not (tmp_path / "absent").exists()
