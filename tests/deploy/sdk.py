"""What an installed Google Cloud SDK says about commands and messages: it is read, `gcloud` itself is never run."""

import ast
import functools
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PARSE = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from importlib import import_module
from apitools.base.py import encoding
module = import_module("googlecloudsdk.generated_clients.apis." + sys.argv[3])
message = encoding.DictToMessage(json.load(sys.stdin), getattr(module, sys.argv[4]))
unknown = [str(name) for _, names in encoding.UnrecognizedFieldIter(message) for name in names]
print(json.dumps(unknown))
"""


def root() -> Path:
    """The SDK's folder; the test is skipped where there is none."""
    program = shutil.which("gcloud")
    found = Path(os.path.realpath(program)).parents[1] if program else None
    if found is None or not (found / "data/cli/gcloud_completions.py").is_file():
        pytest.skip("needs an installed Google Cloud SDK")
    return found


@functools.cache
def commands() -> dict[str, Any]:
    """The SDK's own table of commands and flags."""
    text = (root() / "data/cli/gcloud_completions.py").read_text("utf-8")
    return dict(ast.literal_eval(text[text.index("{") :]))


def complaints(command: str) -> list[str]:
    """What the SDK does not know of a command line that begins with `gcloud`."""
    node, words = commands(), shlex.split(command.partition(" <<")[0])[1:]
    known = set(node["flags"])
    while words and words[0] in node["commands"]:
        node = node["commands"][words.pop(0)]
    if node["commands"]:
        return [f"{command}: no such command"]
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    return [f"{command}: {flag}" for flag in flags if flag not in known | set(node["flags"])]


def unknown_fields(body: object, module: str, message: str) -> list[str]:
    """The fields of a request's body that the SDK's message does not have; a wrong type or choice is an error."""
    library = root() / "lib"
    words = [sys.executable, "-W", "ignore", "-c", PARSE, str(library), str(library / "third_party"), module, message]
    done = subprocess.run(words, input=json.dumps(body), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))
