"""``deepmusic generate``: compose tunes as MIDI, sound, picture and a file to recreate them."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.output import printable
from deepmusic.cli.progress import display
from deepmusic.errors import (
    CheckpointError,
    CopyingError,
    DeepMusicError,
    RequestError,
    os_reason,
)
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    from deepmusic.composer import Composer, Request, Tune

_MAX_COUNT = 1000
_ENDINGS = {".mid", ".wav", ".png", ".json", ".musicxml"}


@click.command()
@click.option(
    "--style",
    metavar="NAME",
    help="A style, or a mix such as folk=0.7,chorale=0.3.  [default: the model's first]",
)
@click.option("--bars", metavar="N", type=int, help="Length, 4 to 256.  [default: 16]")
@click.option(
    "--seed", metavar="N", type=int, help="Equal seeds give equal tunes.  [default: random]"
)
@click.option(
    "--count",
    metavar="N",
    type=click.IntRange(1, _MAX_COUNT),
    default=1,
    show_default=True,
    help="Number of tunes, with consecutive seeds.",
)
@click.option("-o", "--out", metavar="OUT", help="Name of the files.  [default: STYLE-SEED]")
@click.option("--key", metavar="KEY", help="Such as 'D minor'.  [default: random]")
@click.option("--metre", metavar="M/N", help="Such as 3/4.  [default: the style's most common]")
@click.option(
    "--tempo", metavar="BPM", type=float, help="Beats per minute.  [default: the style's]"
)
@click.option(
    "--temperature", metavar="T", type=float, help="0.1 to 3; above 1 favours unlikely notes."
)
@click.option("--top-p", metavar="P", type=float, help="Share of the probability to sample from.")
@click.option(
    "--candidates", metavar="N", type=int, help="Tunes to write and select the best from."
)
@click.option("--primer", metavar="FILE", help="MIDI file to continue.")
@click.option("--harmonize", metavar="FILE", help="MIDI file whose melody is kept.")
@click.option("--infill", metavar="FROM:TO", help="Bars of the primer to rewrite.")
@click.option("--from", "pose_from", metavar="FILE", help="MIDI file to take the pose from.")
@click.option("--pose", metavar="NAME=X,...", help="Move the pose, such as density=1,pitch=-0.5.")
@click.option("--no-ending", is_flag=True, help="Break off after the last bar.")
@click.option("--allow-copies", is_flag=True, help="Keep a tune that copies more than people do.")
@click.option("--again", metavar="FILE.json", help="Recreate the tune of a JSON file.")
@click.option("--model", default="composer", metavar="MODEL", help="A run of your own training.")
@click.option(
    "--soundfont", metavar="FILE", help="SoundFont to play it.  [default: one of this machine]"
)
@click.option("--no-wav", is_flag=True, help="Write no sound.")
@click.option("--no-picture", is_flag=True, help="Write no piano roll.")
@click.option("--musicxml", is_flag=True, help="Write notation as well.")
@click.pass_context
def generate(
    ctx: click.Context,
    /,
    *,
    style: str | None,
    seed: int | None,
    count: int,
    out: str | None,
    again: str | None,
    model: str,
    soundfont: str | None,
    no_wav: bool,
    no_picture: bool,
    musicxml: bool,
    infill: str | None,
    pose: str | None,
    no_ending: bool,
    **options: Any,
) -> None:
    """Compose a tune: OUT.mid, OUT.wav, OUT.png and OUT.json.

    The JSON file records the request, the style critic's probabilities and what is copied; --again
    recreates the tune from it. Exit status: 0 all well, 1 a file or a tune failed, 2 impossible
    requests.
    """
    from deepmusic.composer.request import Request, read_numbers

    output = _Output.of(soundfont, wav=not no_wav, picture=not no_picture, musicxml=musicxml)
    if again is not None:
        values = (style, seed, infill, pose, *options.values())
        if any(v is not None and v is not False for v in values) or count > 1 or no_ending:
            raise RequestError("A tune is recreated as it was: give --again alone, with -o.")
        _recreate(again, model, output, out)
        return
    first = secrets.randbelow(2**31) if seed is None else seed
    request = Request(
        style=None if style is None else read_numbers(style, what="styles", default=1.0),
        seed=first,
        infill=None if infill is None else _read_infill(infill),
        pose={} if pose is None else read_numbers(pose, what="moves of the pose"),
        has_end=not no_ending,
        **{name: value for name, value in options.items() if value is not None},
    )
    composer = _load(model)
    request = composer.resolved(request)
    stem = _stem(out, Path(f"{'-'.join(request.styles)}-{first}"))
    failed = _compose_all(composer, request, count, output, stem)
    ctx.exit(1 if failed else 0)


def _compose_all(
    composer: Composer, request: Request, count: int, output: _Output, stem: Path
) -> int:
    """Compose and write tunes with consecutive seeds; return how many failed."""
    failed = 0
    with display(count, unit="tunes") as progress:
        for number in range(count):
            seed = request.seed + number
            name = stem if count == 1 else stem.with_name(f"{stem.name}-{number + 1}")
            try:
                tune = composer.compose(replace(request, seed=seed))
            except CopyingError as error:
                if count == 1:
                    raise
                failed += 1
                progress.report(f"deepmusic: seed {seed}: {error}")
            else:
                output.write(tune, name)
                progress.echo(_summary(tune, name) + "\n")
            progress.advance()
    return failed


def _stem(out: str | None, default: Path) -> Path:
    """The name of the files without their endings: the default one, in a folder if out is one."""
    if out is None:
        return default
    if Path(out).is_dir():
        return Path(out) / default.name
    return Path(out).with_suffix("") if Path(out).suffix in _ENDINGS else Path(out)


@dataclass(frozen=True)
class _Output:
    """The forms in which tunes are written."""

    wav: bool
    font: str | None
    picture: bool
    musicxml: bool

    @classmethod
    def of(cls, soundfont: str | None, *, wav: bool, picture: bool, musicxml: bool) -> _Output:
        """Check the SoundFont before any work is done.

        Raises:
            DeepMusicError: it is missing or not a SoundFont.
        """
        from deepmusic.music import find_soundfont
        from deepmusic.music.sound import checked_soundfont

        font = (soundfont or find_soundfont()) if wav else None
        return cls(wav, None if font is None else checked_soundfont(font), picture, musicxml)

    def write(self, tune: Tune, stem: Path) -> None:
        """Write a tune under a name, and last the JSON file, which describes the others."""
        from deepmusic import music

        content = music.midi_bytes(tune.score)
        with write_atomically(_with_ending(stem, ".mid"), "wb") as file:
            file.write(content)
        report = {**tune.report, "midi_sha256": hashlib.sha256(content).hexdigest()}
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
        RequestError: a file that it names has changed.
        DeepMusicError: the tune comes out differently.
    """
    from deepmusic.composer.request import Request
    from deepmusic.music import midi_bytes

    report = _read_report(path)
    request = Request.from_dict(report["request"])
    for file, digest in report["files"].items():
        try:
            content = Path(file).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            raise RequestError(f"{file}, which that tune needs, cannot be read.") from error
        if hashlib.sha256(content).hexdigest()[:16] != digest:
            raise RequestError(f"{file}, which that tune needs, has changed since.")
    composer = _load(model)
    if report["model"] != composer.digest:
        raise CheckpointError(
            f"That tune is of another model ({report['model']}, this is {composer.digest}); name "
            "it with --model."
        )
    tune = composer.compose(request)
    if hashlib.sha256(midi_bytes(tune.score)).hexdigest() != report["midi_sha256"]:
        raise DeepMusicError(
            "The tune came out differently: other processors or versions of PyTorch round "
            "differently."
        )
    stem = _stem(out, Path(path).with_suffix(""))
    output.write(tune, stem)
    click.echo(_summary(tune, stem))


def _read_report(path: str) -> dict[str, Any]:
    """The JSON file of a tune.

    Raises:
        RequestError: it cannot be read, or is not one.
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {os_reason(error)}.") from error
    except (ValueError, RecursionError):
        report = None
    if (
        not isinstance(report, dict)
        or not {"model", "request", "files", "midi_sha256"} <= set(report)
        or not isinstance(report["request"], dict)
        or not isinstance(report["files"], dict)
    ):
        raise RequestError(f"{path} is not the JSON file of a tune.")
    return report


def _read_infill(text: str) -> tuple[int, int]:
    first, colon, last = text.partition(":")
    if not (first.strip().isdecimal() and (not colon or last.strip().isdecimal())):
        raise RequestError(f"Bars to rewrite are FROM:TO, such as 5:8; got {text!r}.")
    return int(first), int(last if colon else first)


def _load(model: str) -> Composer:
    from deepmusic.pretrained import load_composer

    return load_composer(model)


def _summary(tune: Tune, stem: Path) -> str:
    """One line about a tune."""
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
    facts += report["warnings"]
    return printable(f"{_with_ending(stem, '.mid')}: {', '.join(facts)}")


def _with_ending(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)
