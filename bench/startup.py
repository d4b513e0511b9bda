"""How long a user waits for help, and for the first answer."""

import subprocess
import sys
from pathlib import Path

from bench.pairs import Row, compare

BIN = Path(sys.executable).parent
TINY = Path(__file__).parents[1] / "tests" / "golden" / "tiny.onnx"


def measure(folder: Path) -> list[Row]:
    """`lesion --help` against importing Typer, a cold `lesion predict` against `yolo help`."""
    from PIL import Image

    image = folder / "image.jpg"
    Image.effect_noise((600, 450), 60).convert("RGB").save(image)
    predict = [BIN / "lesion", "predict", image, "--model", TINY]
    rows = [
        compare(
            "lesion --help",
            _call(BIN / "lesion", "--help"),
            "import typer",
            _call(sys.executable, "-c", "import typer"),
        )
    ]
    if (BIN / "yolo").exists():
        rows.append(
            compare("lesion predict IMAGE, cold", _call(*predict), "yolo help", _call(BIN / "yolo", "help"), repeats=5)
        )
    else:
        print("yolo is not installed (`make bench` installs it): skipped", file=sys.stderr)
    return rows


def _call(*words: object):
    def run() -> None:
        subprocess.run([str(word) for word in words], check=True, capture_output=True)

    return run
