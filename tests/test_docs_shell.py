"""Every bash block in the documentation runs, in order, as one script for each page.

Its commands are forks of one process, which has imported what each would; those of one page are processes that start
from nothing.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXPECTED_TO_FAIL = re.compile(r"^! (.*?[^\\])$", re.DOTALL | re.MULTILINE)
PAGES = [page for page in sorted(ROOT.glob("docs/**/*.md")) if BLOCK.search(page.read_text(encoding="utf-8"))]


def run(page, folder, programs):
    script = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    # A command behind ! has to fail, and bash alone would let its success pass.
    checked = EXPECTED_TO_FAIL.sub(r"if \1; then echo 'this should have failed' >&2; exit 99; fi", script)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", checked],
        cwd=folder,
        env=os.environ | {"PATH": path, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(page, tmp_path, request):
    for framework in re.findall(r"--model (\w+):", page.read_text(encoding="utf-8")):
        pytest.importorskip(framework)
    programs = Path(sys.executable).parent if page.stem == "cron" else request.getfixturevalue("programs")
    done = run(page, tmp_path, programs)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
