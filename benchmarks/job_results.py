"""Results of long measurements, a line each as soon as it is done, so that a kill loses none."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def read_results(path: Path) -> list[dict[str, Any]]:
    """The lines of an earlier run; one that a kill cut in half is left out."""
    results = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            results.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: a line cut in half is left out", file=sys.stderr)
    return results


def append_result(path: Path, result: dict[str, Any]) -> None:
    """Add a line, on a line of its own even if the last one was cut in half."""
    cut = path.is_file() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut else "") + json.dumps(result) + "\n")
