"""The examples of the documentation run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", ["capsules.md", "symbolic.md", "sound.md", "compose.md", "features.md"]
)
def test_examples_run(page: str, tmp_path: Path) -> None:
    examples = EXAMPLE.findall((DOCS / page).read_text(encoding="utf-8"))
    assert examples
    examples[0] = examples[0].replace("range(600)", "range(250)")  # steps of the network of digits
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(examples)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    if page == "capsules.md":
        assert float(done.stdout.split("%")[0]) > 80


def test_the_page_of_commands_is_what_help_says() -> None:
    # In a process of its own: click keeps the help option of the first context that asks for it,
    # and other tests invoke commands without the group above them.
    script = "import sys; from write_commands import page; sys.stdout.write(page())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT / "scripts",
        check=True,
    )
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert page == done.stdout, "run: python scripts/write_commands.py"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    assert [page for page in pages if f" {page}\n" not in navigation] == []
    for name in re.findall(r"\]\((docs/[\w/-]+\.md)\)", (ROOT / "CONTRIBUTING.md").read_text()):
        assert (ROOT / name).is_file(), name
