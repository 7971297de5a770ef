"""The ``deepmusic`` command: a group whose sub-commands are imported when they are called."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

import click

from deepmusic.cli.lazy import LazyGroup
from deepmusic.errors import DeepMusicError, RequestError
from deepmusic.version import __version__

__all__ = ["deepmusic", "main"]

_COMMANDS = {
    "classify": "deepmusic.cli.classify",
    "generate": "deepmusic.cli.generate",
    "train": "deepmusic.cli.train",
    "evaluate": "deepmusic.cli.evaluate",
    "data": "deepmusic.cli.data",
    "features": "deepmusic.cli.features",
    "study": "deepmusic.cli.study",
    "benchmark": "deepmusic.cli.benchmark",
    "doctor": "deepmusic.cli.doctor",
}
"""Sub-command name to the module that holds a click command of the same name."""


_HELP = """Hear music and write it with capsule neural networks.

\b
deepmusic classify song.mp3               the genre of a recording
deepmusic generate --style folk           compose a tune: MIDI, sound, picture
deepmusic train classifier --data music   learn the genres of your own folders
deepmusic train composer --data midis     learn to write in the styles of your own files
deepmusic evaluate runs/music             how well a model hears
deepmusic data download jsb --to data     public data sets of notes
deepmusic features extract ~/Music        the 518 features of FMA
deepmusic study genres --data music       every model of the field, one report
deepmusic doctor                          what works on this machine
"""


@click.command(
    cls=LazyGroup,
    modules=_COMMANDS,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="deepmusic")
def deepmusic() -> None:
    """The group that holds all commands."""


def main() -> NoReturn:
    """Run the command line; no traceback reaches a person.

    Exit status: 0 all well, 1 some inputs failed, 2 wrong usage, 130 interrupted. With
    ``DEEPMUSIC_DEBUG=1`` in the environment, unexpected errors are raised as they are.
    """
    atexit._run_exitfuncs()  # joblib's removes its folders
    for stream in (sys.stdout, sys.stderr):
        # a name may hold bytes or letters that the terminal's encoding lacks
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        status = deepmusic.main(prog_name="deepmusic", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except RequestError as error:
        _complain(str(error))
        status = 2
    except DeepMusicError as error:
        _complain(str(error))
        status = 1
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        # worker threads may be in the middle of a long file: do not wait for them
        _leave_at_once(130)
    except BrokenPipeError:
        _leave_at_once(141)  # whoever read our output has gone, as in `deepmusic ... | head`
    except Exception as error:
        if os.environ.get("DEEPMUSIC_DEBUG"):
            raise
        _complain(_one_sentence(error))
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def run() -> NoReturn:
    """The ``deepmusic`` command as a process of its own: :func:`main`, and out.

    Without this Python takes PyTorch apart piece by piece at the end, for half a second.
    """
    try:
        main()
    except SystemExit as done:
        _leave_at_once(done.code if isinstance(done.code, int) else 1)


def _complain(message: str) -> None:
    click.echo(f"deepmusic: {message}", err=True)


def _one_sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename!r}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    if isinstance(error, MemoryError):
        return "out of memory; close other programs or use fewer --jobs"
    said = " ".join(str(error).split())
    return (
        f"unexpected {type(error).__name__}{': ' + said if said else ''} "
        "(this is a bug; run again with DEEPMUSIC_DEBUG=1 to see where)"
    )


def _leave_at_once(status: int) -> NoReturn:
    atexit._run_exitfuncs()  # joblib's removes its folders
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
