"""The ``deepmusic`` command: a group whose commands are imported when they are called."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click

from deepmusic.errors import DeepMusicError, RequestError, os_reason
from deepmusic.extras import explained
from deepmusic.version import __version__

_HELP = """Classify music by genre and compose it, with capsule networks.

\b
deepmusic ear install                     once: the network that hears seventeen genres
deepmusic classify song.mp3               the genre of a recording
deepmusic generate --style folk           compose a tune: MIDI, sound, picture
deepmusic train classifier --data music   learn the genres of your own folders
deepmusic train composer --data midis     learn the styles of your own files
deepmusic evaluate runs/music             how well a model does
deepmusic data download jsb --to data     public data sets of notes
deepmusic features extract ~/Music        the 518 features of FMA
deepmusic study genres --data music       every model of the field, one report
deepmusic doctor                          what works on this machine
"""


class LazyGroup(click.Group):
    """A group that imports a command only when it is needed.

    Args:
        modules: each command's name, and its module, which holds a click command of that name
            (``module:name`` for another name), or a group.
        options: those of `click.Group`.
    """

    def __init__(self, modules: Mapping[str, str | click.Group], **options: Any) -> None:
        super().__init__(**options)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the table."""
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        entry = self._modules.get(cmd_name)
        if not isinstance(entry, str):
            return entry
        module, _, name = entry.partition(":")
        command: click.Command = getattr(import_module(module), name or cmd_name)
        return command


_COMMANDS: dict[str, str | click.Group] = {
    "classify": "deepmusic.cli.classify",
    "generate": "deepmusic.cli.generate",
    "train": LazyGroup(
        help="Train a model of your own.",
        modules={
            "baseline": "deepmusic.cli.train",
            "classifier": "deepmusic.cli.train",
            "composer": "deepmusic.cli.train",
        },
    ),
    "ear": LazyGroup(help="The pretrained ear: install.", modules={"install": "deepmusic.cli.ear"}),
    "evaluate": "deepmusic.cli.evaluate",
    "data": LazyGroup(
        help="Data sets: list, download, get, check, build, stats, split.",
        modules={
            "list": "deepmusic.cli.data_download:list_datasets",
            "download": "deepmusic.cli.data_download",
            "get": "deepmusic.cli.data_download",
            "check": "deepmusic.cli.data_check",
            "build": "deepmusic.cli.data_build",
            "stats": "deepmusic.cli.data_stats",
            "split": "deepmusic.cli.data_split",
        },
    ),
    "features": LazyGroup(
        help="The 518 features of FMA: extract, show, check.",
        modules={
            "extract": "deepmusic.cli.features",
            "show": "deepmusic.cli.features",
            "check": "deepmusic.cli.features",
        },
    ),
    "study": LazyGroup(
        help="Studies: all models on your own data, and FMA's table of baselines.",
        modules={
            "genres": "deepmusic.cli.study",
            "fma-baselines": "deepmusic.cli.study:fma_baselines",
        },
    ),
    "benchmark": "deepmusic.cli.benchmark",
    "doctor": "deepmusic.cli.doctor",
}
"""Each command, and the module that holds it under the same name."""


@click.group(
    cls=LazyGroup,
    modules=_COMMANDS,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, prog_name="deepmusic")
def deepmusic() -> None:
    """The group of all commands."""


def main() -> NoReturn:
    """Run the command line; no traceback reaches a person.

    Exit status: 0 all well, 1 some inputs failed, 2 wrong usage, 130 interrupted. With
    ``DEEPMUSIC_DEBUG=1`` in the environment, unexpected errors are raised as they are.
    """
    for stream in (sys.stdout, sys.stderr):
        # file names may hold bytes or letters that the terminal's encoding lacks
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
            if not stream.isatty():  # files are UTF-8 whatever the locale or code page is
                reconfigure(encoding="utf-8", newline="\n")
    status = 1
    try:
        with explained():
            result = deepmusic.main(prog_name="deepmusic", standalone_mode=False)
        status = result if isinstance(result, int) else 0
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except DeepMusicError as error:
        _complain(str(error))
        status = 2 if isinstance(error, RequestError) else 1
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        _exit_at_once(130)  # threads may be in the middle of a long file
    except BrokenPipeError:
        _exit_at_once(141)  # the reader of our output has gone, as in `deepmusic ... | head`
    except Exception as error:
        if os.environ.get("DEEPMUSIC_DEBUG"):
            raise
        _complain(_one_sentence(error))
    sys.exit(status)


def run() -> NoReturn:
    """`main` as a process of its own, which ends at once.

    Otherwise Python would take half a second to dismantle PyTorch. Where the locale has another
    encoding of file names, Python is started anew with UTF-8: tables and files would not match.
    """
    if os.name == "posix" and sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    try:
        main()
    except SystemExit as done:
        _exit_at_once(done.code if isinstance(done.code, int) else 1)


def _complain(message: str) -> None:
    click.echo(f"deepmusic: {message}", err=True)


def _one_sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename!r}: " if error.filename is not None else ""
        return f"{where}{os_reason(error)}."
    if isinstance(error, MemoryError):
        return "out of memory; close other programs or use fewer --jobs."
    message = " ".join(str(error).split())
    return (
        f"unexpected {type(error).__name__}{': ' + message if message else ''} "
        "(this is a bug; run again with DEEPMUSIC_DEBUG=1 to see where)"
    )


def _exit_at_once(status: int) -> NoReturn:
    atexit._run_exitfuncs()  # joblib's removes its temporary folders
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
