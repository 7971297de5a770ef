"""Results of long measurements as JSON lines, each appended at once, so that a kill loses none."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def read_results(path: Path) -> list[dict[str, Any]]:
    """The results of earlier runs; a line that a kill left incomplete is skipped."""
    results = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            results.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: an incomplete line is skipped", file=sys.stderr)
    return results


def append_result(path: Path, result: dict[str, Any]) -> None:
    """Append a result, on a new line even if the last one is incomplete."""
    cut = path.is_file() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut else "") + json.dumps(result) + "\n")
