"""Groups of commands that import a command only when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that imports the module of a sub-command only when it is needed.

    Args:
        modules: sub-command name to the module that holds a click command of the same name, or to
            ``module:name`` where the command has another.
        options: as those of :class:`click.Group`.
    """

    def __init__(self, *, modules: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the table."""
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        module = self._modules.get(cmd_name)
        if module is None:
            return None
        module, _, name = module.partition(":")
        command: click.Command = getattr(import_module(module), name or cmd_name)
        return command
