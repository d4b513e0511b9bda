"""The image that serves, really built and run, where buildah and debootstrap are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

pytestmark = [pytest.mark.soak, pytest.mark.timeout(5400)]  # debootstrap and two virtual environments


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_the_image_is_built_looked_into_and_serves_on_a_read_only_root(tmp_path: Path) -> None:
    missing = [tool for tool in ("buildah", "debootstrap", "unshare", "setpriv") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing else'}")
    command = [sys.executable, str(REPO / "scripts/image"), "--store", str(tmp_path / "images")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines.keys() == {"user", "size", "packages", "serves", "answers", "stops"}
