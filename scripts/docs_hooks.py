"""MkDocs hook: a reference page lists each public name of its package, as the stub does."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / "src"


def public_names(package: str) -> list[str]:
    """The full paths of a package's public names, in the order of its ``__init__.pyi``.

    What ``deepmusic`` takes from its packages is on the pages of these.
    """
    stub = SOURCE.joinpath(*package.split("."), "__init__.pyi")
    return [
        f"{package}.{node.module}.{alias.name}"
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module
        if "." in package or "." not in node.module
        for alias in node.names
        if not alias.name.startswith("__")
    ]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn ``{{ public names of PACKAGE }}`` into one mkdocstrings block per name."""
    return re.sub(
        r"\{\{ public names of ([\w.]+) \}\}",
        lambda match: "\n\n".join(f"::: {name}" for name in public_names(match[1])),
        markdown,
    )
