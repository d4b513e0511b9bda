import ast
import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lesion
from lesion import errors
from tests.conftest import GOLDEN, REPO

SRC = REPO / "src" / "lesion"
HEAVY = {
    "torch", "torchvision", "lightning", "torchmetrics", "onnx", "wandb", "dvc", "omegaconf", "fastapi", "uvicorn",
    "sqlalchemy", "psutil",
}  # fmt: skip


def _modules_after(code: str) -> set[str]:
    """Top-level modules loaded in a fresh interpreter after `code`."""
    script = f"import sys, json, contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n{code}\n"
    script += "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_imports_run_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", ["--help", "predict --help", "train --help", "data --help", "--version"])
def test_help_loads_nothing_heavy(command: str) -> None:
    code = "    from lesion.cli.app import main\n    with contextlib.suppress(SystemExit):\n"
    loaded = _modules_after(f"{code}        main({command.split()})")
    assert loaded.isdisjoint(HEAVY | {"rich", "numpy", "PIL", "onnxruntime", "pydantic"})


def test_predicting_loads_nothing_heavy(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 48), "pink").save(tmp_path / "image.png")
    words = ["predict", str(tmp_path / "image.png"), "--model", str(GOLDEN / "tiny.onnx"), "--json"]
    code = "    from lesion.cli.app import main\n    with contextlib.suppress(SystemExit):\n"
    loaded = _modules_after(f"{code}        main({words})")
    assert "onnxruntime" in loaded
    assert loaded.isdisjoint(HEAVY | {"rich", "pydantic"})


def test_importing_lesion_loads_nothing_but_the_standard_library() -> None:
    loaded = _modules_after("    import lesion")
    assert loaded.isdisjoint(HEAVY | {"rich", "numpy", "PIL", "onnxruntime", "typer"})


@pytest.mark.skipif(sys.platform != "linux", reason="only there is it known which file the telemetry begins with")
def test_onnx_runtime_tells_nobody_of_models_and_machines(tmp_path: Path) -> None:
    code = f"import lesion; lesion.load({str(GOLDEN / 'tiny.onnx')!r})"
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=kept | home, check=True)
    assert list(tmp_path.iterdir()) == []  # else there is a file with the machine's new number


def test_serving_and_evaluating_never_load_torch() -> None:
    loaded = _modules_after("    import lesion.serve.app, lesion.engine.evaluation.evaluate, lesion.cli.settings")
    assert loaded.isdisjoint({"torch", "torchvision", "lightning", "torchmetrics", "onnx", "wandb", "dvc"})


# Import name → package, where they differ; and packages that are used without an import.
PACKAGES = {"PIL": "pillow", "yaml": "pyyaml", "opentelemetry": "opentelemetry-sdk"}
INDIRECT = {
    "onnxscript": "torch.onnx", "dvc": "a command", "gcsfs": "fsspec", "s3fs": "fsspec", "psycopg": "sqlalchemy",
    "pandas": "ray", "opentelemetry-exporter-otlp-proto-http": "of the namespace opentelemetry",
}  # fmt: skip


def test_every_import_is_declared_and_every_declared_package_is_used() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    imported = set()
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
    others = imported - sys.stdlib_module_names - {"lesion"}
    used = {canonicalize_name(PACKAGES.get(name, name)) for name in others}
    assert used - declared == set()
    assert declared - used == INDIRECT.keys()


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text("utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _length(node: ast.AST) -> int:
    return int(node.end_lineno - node.lineno + 1)  # type: ignore[attr-defined]


COMMANDS = [path for path in (SRC / "cli").rglob("*.py") if path.stem not in ("__init__", "app", "options", "render")]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_command_is_a_thin_skin(path: Path) -> None:
    functions = _functions(path)
    assert functions
    assert all(_length(function) <= 40 for function in functions)


def test_files_and_functions_fit_on_a_screen_or_two() -> None:
    files = list(SRC.rglob("*.py"))
    assert len(files) > 30
    too_long = [path.name for path in files if len(path.read_text("utf-8").splitlines()) > 600]
    assert too_long == []
    long = [f"{path.name}:{f.name}" for path in files for f in _functions(path) if _length(f) > 60]
    assert long == []


@pytest.mark.parametrize(
    "name", [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]
)
def test_every_error_stands_in_the_drawn_tree_with_its_codes(name: str) -> None:
    kind = getattr(errors, name)
    (line,) = [line for line in (errors.__doc__ or "").splitlines() if name in line.split()]
    if name != "LesionError":
        assert f" {kind.exit_code} " in line
        assert f" {kind.http_status} " in line


def test_no_code_loads_pickles_or_reads_the_environment() -> None:
    for path in SRC.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "weights_only=False" not in text, path
        assert "pickle.load" not in text, path
        if path.name == "launch.py":  # launchers tell a process its place there, and take it from there
            continue
        # W&B, Ray and ONNX Runtime take a switch from there alone.
        for switch in (
            '"WANDB_ERROR_REPORTING", "false"', '"RAY_USAGE_STATS_ENABLED", "0"', '"ORT_DISABLE_TELEMETRY", "1"',
        ):  # fmt: skip
            text = text.replace(f"os.environ.setdefault({switch})", "")
        text = text.replace('os.environ.get("XDG_CACHE_HOME")', "")  # where caches belong, everybody says there
        assert "os.environ" not in text, path
        assert "yaml.load" not in text, path


def test_every_public_name_can_be_imported() -> None:
    for name in lesion.__all__:
        assert getattr(lesion, name)


def test_every_module_says_what_it_is_for_and_imports() -> None:
    for path in SRC.rglob("*.py"):
        if path.name == "__main__.py":
            continue
        name = ".".join(path.relative_to(SRC.parent).with_suffix("").parts).removesuffix(".__init__")
        assert importlib.import_module(name).__doc__, name
