"""The notebooks, kept as text, run as they stand and would open in Jupyter."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
PICTURES = {
    "features_of_an_mp3": ["features.png"],
    "baselines": ["baselines.png"],
    "compose": ["higher.png", "tune.png"],
}
MARKER = re.compile(r"^# %%(.*)$", re.MULTILINE)


def cells_of(text: str) -> list[tuple[str, str]]:
    """The kind of each cell, such as " [markdown]", and its text."""
    parts = MARKER.split(text)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_all_notebooks_are_tested() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.py")} == set(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_the_text_is_a_notebook(name: str) -> None:
    """By the percent format of jupytext: a header, then cells of comments and cells of code."""
    text = (NOTEBOOKS / f"{name}.py").read_text(encoding="utf-8")
    header = MARKER.split(text)[0]
    assert header.startswith("# ---\n# jupyter:\n")
    assert "format_name: percent" in header
    assert header.rstrip().endswith("# ---")
    cells = cells_of(text)
    assert cells[0][0] == " [markdown]"
    assert {kind for kind, _ in cells} == {"", " [markdown]"}
    for kind, cell in cells:
        if kind:
            assert all(line.startswith("#") for line in cell.strip().splitlines())
        else:
            assert ast.parse(cell).body, "a cell of code that does nothing"


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_notebooks_run(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(NOTEBOOKS / f"{name}.py")],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.png")) == PICTURES[name]
    for picture in PICTURES[name]:
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    if name == "features_of_an_mp3":
        assert "Strongest in the first second: A, C, E" in done.stdout
    elif name == "baselines":
        shares = {
            line[:36].strip(): [int(share) for share in re.findall(r"(\d+)%", line)]
            for line in done.stdout.splitlines()
            if "grouped by artist" in line
        }
        grouped, leaking = zip(*shares.values(), strict=True)
        assert len(shares) == 9
        assert sum(leaking) > sum(grouped) + 20  # leakage inflates the scores, as the text says
    else:
        assert (tmp_path / "tune.mid").read_bytes().startswith(b"MThd")
        assert re.search(r"mean pitch [\d.]+, moved [\d.]+", done.stdout)
        assert "Estimated key of tune.mid: D major" in done.stdout
