"""Replace the parts of a page of the documentation that a script or a benchmark writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deepmusic.files import write_atomically


def with_parts(page: str, script: str, parts: Mapping[str, str]) -> str:
    """The page with each text between ``<!-- NAME by SCRIPT -->`` and ``<!-- end of NAME -->``."""
    for name, text in parts.items():
        start, end = f"<!-- {name} by {script} -->", f"<!-- end of {name} -->"
        before, found, rest = page.partition(start)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"The page lacks the markers {start} and {end}.")
        text = text if text.endswith("\n") else f"{text}\n"
        page = f"{before}{start}\n{text}{end}{after}"
    return page


def write_parts(path: Path, script: str, parts: Mapping[str, str]) -> None:
    """Renew these parts of a page."""
    page = with_parts(path.read_text(encoding="utf-8"), script, parts)
    with write_atomically(path) as file:
        file.write(page)
