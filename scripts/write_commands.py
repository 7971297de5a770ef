"""Write ``docs/commands.md`` from the ``--help`` of every command.

python scripts/write_commands.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from deepmusic.cli import deepmusic

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
OPENING = """# Commands

Written by `scripts/write_commands.py` from `--help`. Exit status of every command: 0 all well, 1
some inputs failed, 2 wrong usage, 130 interrupted.
"""


def leaves(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    """The contexts of all commands below a group, in its order."""
    if not isinstance(command, click.Group):
        yield context
        return
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from leaves(child, click.Context(child, parent=context, info_name=name))


def page() -> str:
    """The whole page."""
    root = click.Context(deepmusic, info_name="deepmusic", **deepmusic.context_settings)
    sections = [OPENING]
    for context in leaves(deepmusic, root):
        context.terminal_width = context.max_content_width = 88
        sections.append(
            f"## {context.command_path}\n\n```text\n{context.command.get_help(context)}\n```\n"
        )
    return "\n".join(sections)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
