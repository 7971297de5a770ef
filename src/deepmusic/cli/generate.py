"""``deepmusic generate``: compose tunes as MIDI, sound, picture and a file to recreate them."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.options import option, output_file
from deepmusic.cli.output import printable
from deepmusic.cli.progress import display
from deepmusic.errors import (
    CheckpointError,
    CopyingError,
    DeepMusicError,
    RequestError,
    os_reason,
)
from deepmusic.extras import need
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    from deepmusic.composer import Tune

_ENDINGS = {".mid", ".wav", ".png", ".json", ".musicxml"}


@click.command()
@option(
    "--style NAME", "A style, or a mix such as folk=0.7,chorale=0.3.  [default: the model's first]"
)
@option("--bars N", "Length, 4 to 256.  [default: 16]", type=int)
@option("--seed N", "Equal seeds give equal tunes.  [default: random]", type=int)
@option(
    "--count N", "Number of tunes, with consecutive seeds.", type=click.IntRange(1, 1000), default=1
)
@option("-o, --out OUT", "Name of the files.  [default: STYLE-SEED]")
@option("--key KEY", "Such as 'D minor'.  [default: random]")
@option("--metre M/N", "Such as 3/4.  [default: the style's most common]")
@option("--tempo BPM", "Beats per minute.  [default: the style's]", type=float)
@option("--temperature T", "0.1 to 3; above 1 favours unlikely notes.", type=float)
@option("--top-p P", "Share of probability to sample from.", type=float)
@option("--candidates N", "Tunes to compose and select the best from.", type=int)
@option("--primer FILE", "MIDI file to continue.")
@option("--harmonize FILE", "MIDI file to whose melody parts are composed.")
@option("--melody N", "Its part with the melody.  [default: the highest steady line]", type=int)
@option("--infill FROM:TO", "Bars of the primer to rewrite.")
@option("--from FILE", "MIDI file to take the pose from.", name="pose_from")
@option("--pose NAME=X,...", "Move the pose, such as density=1,pitch=-0.5.")
@option("--no-ending", "Break off after the last bar.")
@option("--allow-copies", "Keep a tune that copies more than human composers do.")
@option("--again FILE.json", "Recreate the tune of a JSON file.")
@option("--model MODEL", "A run of your own training.", default="composer")
@option("--soundfont FILE", "SoundFont to play it.  [default: one of this machine]")
@option("--no-wav", "Write no sound.")
@option("--no-picture", "Write no piano roll.")
@option("--musicxml", "Write notation as well.")
@click.pass_context
def generate(
    ctx: click.Context,
    /,
    *,
    count: int,
    out: str | None,
    again: str | None,
    model: str,
    soundfont: str | None,
    no_wav: bool,
    no_picture: bool,
    musicxml: bool,
    **options: Any,
) -> None:
    """Compose a tune: OUT.mid, OUT.wav, OUT.png and OUT.json.

    The JSON file records the request, the style critic's probabilities and what is copied; --again
    recreates the tune from it. Exit status: 0 all well, 1 a file or a tune failed, 2 impossible
    requests.
    """
    from deepmusic.composer.request import Request
    from deepmusic.music import find_soundfont
    from deepmusic.music.sound import checked_soundfont

    font = None if no_wav else soundfont or find_soundfont()
    font = None if font is None else checked_soundfont(font)
    if musicxml:
        need("musicxml")
    output_file(ctx, None, str(_stem(out, Path("tune"))), "-o")
    output = _Output(not no_wav, font, not no_picture, musicxml)
    given = {name: v for name, v in options.items() if v is not None and v is not False}
    if again is not None:
        if given or count > 1:
            raise RequestError("A tune is recreated as it was: give --again alone, with -o.")
        _recreate(again, model, output, out)
        return
    request = Request(**{"seed": secrets.randbelow(2**31), **_read(given)})

    from deepmusic.pretrained import load_composer

    composer = load_composer(model)
    request = composer.resolved(request)
    stem, failed = _stem(out, Path(f"{'-'.join(request.styles)}-{request.seed}")), 0
    with display(count, unit="tunes") as screen:
        for number in range(count):
            seed = request.seed + number
            name = stem if count == 1 else stem.with_name(f"{stem.name}-{number + 1}")
            try:
                tune = composer.compose(replace(request, seed=seed))
            except CopyingError as error:
                if count == 1:
                    raise
                failed += 1
                screen.report(f"deepmusic: seed {seed}: {error}")
            else:
                output.write(tune, name)
                screen.echo(_summary(tune, name) + "\n")
            screen.advance()
    ctx.exit(1 if failed else 0)


def _read(options: dict[str, Any]) -> dict[str, Any]:
    """Options as arguments of a `Request`.

    Raises:
        RequestError: an option that has a form of its own is not of this form.
    """
    from deepmusic.composer.request import read_numbers

    if "style" in options:
        options["style"] = read_numbers(options["style"], what="styles", default=1.0)
    if "pose" in options:
        options["pose"] = read_numbers(options["pose"], what="moves of the pose")
    if "infill" in options:
        bars = re.fullmatch(r"\s*(\d+)\s*(?::\s*(\d+)\s*)?", options["infill"])
        if bars is None:
            raise RequestError(
                f"Bars to rewrite are FROM:TO, such as 5:8; got {options['infill']!r}."
            )
        options["infill"] = (int(bars[1]), int(bars[2] or bars[1]))
    if options.pop("no_ending", False):
        options["has_end"] = False
    return options


def _stem(out: str | None, default: Path) -> Path:
    """The name of the files without their endings: the default one, in a folder if out is one."""
    if out is None:
        return default
    if Path(out).is_dir():
        return Path(out) / default.name
    return Path(out).with_suffix("") if Path(out).suffix in _ENDINGS else Path(out)


def _with_ending(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


@dataclass(frozen=True)
class _Output:
    """The forms in which tunes are written."""

    wav: bool
    font: str | None
    picture: bool
    musicxml: bool

    def write(self, tune: Tune, stem: Path) -> None:
        """Write a tune under a name, and last the JSON file, which describes the others."""
        from deepmusic import music

        with write_atomically(_with_ending(stem, ".mid"), "wb") as file:
            file.write(tune.midi)
        _with_ending(stem, ".json").unlink(missing_ok=True)  # it describes an earlier tune
        report = {**tune.report, "midi_sha256": hashlib.sha256(tune.midi).hexdigest()}
        if self.wav:
            music.write_wav(tune.score, _with_ending(stem, ".wav"), soundfont=self.font)
            report["sound"] = "built-in synthesiser" if self.font is None else Path(self.font).name
        if self.picture:
            title = f"{', '.join(tune.request.styles)}, {report['key']}, seed {tune.request.seed}"
            music.draw_piano_roll(tune.score, _with_ending(stem, ".png"), title=title)
        if self.musicxml:
            music.write_musicxml(tune.score, _with_ending(stem, ".musicxml"))
        with write_atomically(_with_ending(stem, ".json")) as out:
            json.dump(report, out, indent=1, ensure_ascii=False)
            out.write("\n")


def _recreate(path: str, model: str, output: _Output, out: str | None) -> None:
    """Make the tune of a JSON file again.

    Raises:
        CheckpointError: it is of another model.
        RequestError: it is not the JSON file of a tune, or a file that it names has changed.
        DeepMusicError: the tune comes out differently.
    """
    from deepmusic.composer.request import Request
    from deepmusic.pretrained import load_composer

    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        request, files = Request.from_dict(dict(report["request"])), dict(report["files"])
        digest, midi_sha256 = report["model"], report["midi_sha256"]
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {os_reason(error)}.") from error
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise RequestError(f"{path} is not the JSON file of a tune.") from error
    for file, file_sha256 in files.items():
        try:
            content = Path(file).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            raise RequestError(f"{file}, which that tune needs, cannot be read.") from error
        if hashlib.sha256(content).hexdigest()[:16] != file_sha256:
            raise RequestError(f"{file}, which that tune needs, has changed since.")
    composer = load_composer(model)
    if digest != composer.digest:
        raise CheckpointError(
            f"That tune is of another model ({digest}, this is {composer.digest}); name it with "
            "--model."
        )
    tune = composer.compose(request)
    if hashlib.sha256(tune.midi).hexdigest() != midi_sha256:
        raise DeepMusicError(
            "The tune came out differently: other processors or versions of onnxruntime round "
            "differently."
        )
    stem = _stem(out, Path(path).with_suffix(""))
    output.write(tune, stem)
    click.echo(_summary(tune, stem))


def _summary(tune: Tune, stem: Path) -> str:
    """One line about a tune, and one for each warning."""
    report = tune.report
    facts = [
        f"{report['bars']} bars of {report['metre']}",
        str(report["key"]),
        f"{report['seconds']:.0f} s",
        f"seed {tune.request.seed}",
    ]
    styles = report["style_probabilities"]
    if styles:
        best = max(styles, key=styles.__getitem__)
        facts.append(f"style {best} {styles[best]:.0%}")
    if report["copying"]:
        facts.append(f"at most {report['copying']['steps']} steps shared with the training music")
    first = f"{_with_ending(stem, '.mid')}: {', '.join(facts)}"
    return "\n".join(printable(line) for line in (first, *report["warnings"]))
