"""``deepmusic generate``: compose tunes, as MIDI, sound, picture and a file to make them again."""

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
from deepmusic.errors import CheckpointError, CopyingError, DeepMusicError, RequestError
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    from deepmusic.composer import Composer, Tune

_MOST = 1000


@click.command()
@click.option(
    "--style",
    metavar="NAME",
    help="A style, or a mix such as folk=0.7,chorale=0.3.  [default: the model's first]",
)
@click.option("--bars", metavar="N", type=int, help="Length, 4 to 256.  [default: 16]")
@click.option("--seed", metavar="N", type=int, help="The same seed, the same tune.  [default: any]")
@click.option(
    "--count",
    metavar="N",
    type=click.IntRange(1, _MOST),
    default=1,
    show_default=True,
    help="Tunes, with seeds one after the other.",
)
@click.option("-o", "--out", metavar="OUT", help="Name of the files.  [default: STYLE-SEED]")
@click.option("--key", metavar="KEY", help="Such as 'D minor'.  [default: by the seed]")
@click.option("--metre", metavar="M/N", help="Such as 3/4.  [default: the style's commonest]")
@click.option("--tempo", metavar="BPM", type=float, help="Beats a minute.  [default: the style's]")
@click.option("--temperature", metavar="T", type=float, help="0.1 to 3; above 1 is bolder.")
@click.option("--top-p", metavar="P", type=float, help="Leave the unlikeliest notes away.")
@click.option("--candidates", metavar="N", type=int, help="Tunes to choose the best from.")
@click.option("--primer", metavar="FILE", help="MIDI file to continue.")
@click.option("--harmonize", metavar="FILE", help="MIDI file of which the melody is kept.")
@click.option("--infill", metavar="FROM:TO", help="Bars of the primer to write anew.")
@click.option("--from", "pose_from", metavar="FILE", help="MIDI file to take the manner of.")
@click.option("--pose", metavar="NAME=X,...", help="Move the manner, such as density=1,pitch=-0.5.")
@click.option("--no-ending", is_flag=True, help="Break off after the last bar.")
@click.option("--allow-copies", is_flag=True, help="Keep a tune that copies more than people do.")
@click.option("--again", metavar="FILE.json", help="Make the tune of such a file again.")
@click.option("--model", default="composer", metavar="MODEL", help="A run of your own training.")
@click.option("--soundfont", metavar="FILE", help="SoundFont to play it.  [default: one found]")
@click.option("--no-wav", is_flag=True, help="Write no sound.")
@click.option("--no-picture", is_flag=True, help="Write no piano roll.")
@click.option("--musicxml", is_flag=True, help="Write notation as well.")
@click.pass_context
def generate(
    ctx: click.Context,
    /,
    *,
    style: str | None,
    bars: int | None,
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
    **asked: Any,
) -> None:
    """Compose a tune: OUT.mid, OUT.wav, OUT.png and OUT.json.

    The JSON file says what was asked, what the judge says and what is copied; --again makes the
    same tune of it. Exit status: 0 all well, 1 a file or a tune failed, 2 impossible requests.
    """
    from deepmusic.composer.request import Request, read_numbers

    form = _Form.of(soundfont, wav=not no_wav, picture=not no_picture, musicxml=musicxml)
    if again is not None:
        others = {
            **asked,
            "style": style,
            "bars": bars,
            "seed": seed,
            "infill": infill,
            "pose": pose,
        }
        given = any(value is not None and value is not False for value in others.values())
        if given or count > 1 or no_ending:
            raise RequestError("A tune is made again as it was: give --again alone, with -o.")
        recorded = _recorded(again)
        composer = _load(model)
        _make_again(composer, recorded, form, _stem(out, Path(again).with_suffix("")))
        return
    composer = _load(model)
    first = secrets.randbelow(2**31) if seed is None else seed
    names = composer.styles[0] if style is None else style
    values = {name: value for name, value in asked.items() if value is not None}
    request = Request(
        style=read_numbers(names, what="styles", default=1.0),
        bars=bars,
        seed=first,
        infill=None if infill is None else _read_infill(infill),
        pose={} if pose is None else read_numbers(pose, what="moves of the pose"),
        has_end=not no_ending,
        **values,
    )
    stem = _stem(out, Path(f"{'-'.join(request.style)}-{first}"))
    failed = 0
    with display(count) as shown:
        for number in range(count):
            name = stem if count == 1 else stem.with_name(f"{stem.name}-{number + 1}")
            try:
                tune = composer.compose(replace(request, seed=first + number))
            except CopyingError as error:
                if count == 1:
                    raise
                failed += 1
                shown.report(f"deepmusic: seed {first + number}: {error}")
            else:
                form.write(tune, name)
                shown.echo(_line(tune, name) + "\n")
            shown.advance()
    ctx.exit(1 if failed else 0)


def _stem(out: str | None, usual: Path) -> Path:
    """The name of the files without their endings: the usual one, in a folder if out is one."""
    if out is None:
        return usual
    if Path(out).is_dir():
        return Path(out) / usual.name
    return Path(out).with_suffix("") if Path(out).suffix in _ENDINGS else Path(out)


_ENDINGS = {".mid", ".wav", ".png", ".json", ".musicxml"}


@dataclass(frozen=True)
class _Form:
    """In which forms tunes are written."""

    wav: bool
    font: str | None
    picture: bool
    musicxml: bool

    @classmethod
    def of(cls, soundfont: str | None, *, wav: bool, picture: bool, musicxml: bool) -> _Form:
        """Look at the SoundFont, named or found, before any work is done.

        Raises:
            DeepMusicError: it is missing or none.
        """
        from deepmusic.music import find_soundfont
        from deepmusic.music.soundfont import checked_soundfont

        font = (soundfont or find_soundfont()) if wav else None
        return cls(wav, None if font is None else checked_soundfont(font), picture, musicxml)

    def write(self, tune: Tune, stem: Path) -> None:
        """Write a tune under a name, and last the file that tells of the others."""
        from deepmusic.music import draw_piano_roll, midi_bytes, write_musicxml, write_wav

        content = midi_bytes(tune.score)
        with write_atomically(_named(stem, ".mid"), "wb") as file:
            file.write(content)
        report = {**tune.report, "midi_sha256": hashlib.sha256(content).hexdigest()}
        if self.wav:
            write_wav(tune.score, _named(stem, ".wav"), soundfont=self.font)
            report["sound"] = "built-in synthesiser" if self.font is None else Path(self.font).name
        if self.picture:
            title = f"{', '.join(tune.request.style)}, {report['key']}, seed {tune.request.seed}"
            draw_piano_roll(tune.score, _named(stem, ".png"), title=title)
        if self.musicxml:
            write_musicxml(tune.score, _named(stem, ".musicxml"))
        with write_atomically(_named(stem, ".json")) as file:
            json.dump(report, file, indent=1, ensure_ascii=False)
            file.write("\n")


def _make_again(composer: Composer, recorded: dict[str, Any], form: _Form, stem: Path) -> None:
    """Make the tune that a file tells of.

    Raises:
        CheckpointError: it is of another model.
        RequestError: a file that it names has changed, or the tune comes out otherwise.
    """
    from deepmusic.composer.request import Request
    from deepmusic.music import midi_bytes

    if recorded["model"] != composer.digest:
        raise CheckpointError(
            f"That tune is of another model ({recorded['model']}, this is {composer.digest}); name "
            "it with --model."
        )
    request = Request.from_dict(recorded["request"])
    for path, digest in recorded["files"].items():
        try:
            content = Path(path).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            raise RequestError(f"{path}, which that tune needs, cannot be read.") from error
        if hashlib.sha256(content).hexdigest()[:16] != digest:
            raise RequestError(f"{path}, which that tune needs, has changed since.")
    tune = composer.compose(request)
    if hashlib.sha256(midi_bytes(tune.score)).hexdigest() != recorded["midi_sha256"]:
        raise DeepMusicError(
            "The tune came out otherwise: another processor or version of PyTorch rounds otherwise."
        )
    form.write(tune, stem)
    click.echo(_line(tune, stem))


def _recorded(path: str) -> dict[str, Any]:
    """What a tune's JSON file says.

    Raises:
        RequestError: it cannot be read, or is none.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not the JSON file of a tune.") from error
    needed = ("model", "request", "files", "midi_sha256")
    if (
        not isinstance(content, dict)
        or any(name not in content for name in needed)
        or not isinstance(content["request"], dict)
        or not isinstance(content["files"], dict)
    ):
        raise RequestError(f"{path} is not the JSON file of a tune.")
    return content


def _read_infill(text: str) -> tuple[int, int]:
    first, colon, last = text.partition(":")
    if not (first.strip().isdecimal() and (not colon or last.strip().isdecimal())):
        raise RequestError(f"Bars to rewrite are FROM:TO, such as 5:8; got {text!r}.")
    return int(first), int(last if colon else first)


def _load(model: str) -> Composer:
    from deepmusic.pretrained import load_composer

    return load_composer(model)


def _line(tune: Tune, stem: Path) -> str:
    """One line on a tune."""
    report = tune.report
    said = [
        f"{report['bars']} bars of {report['metre']}",
        str(report["key"]),
        f"{report['seconds']:.0f} s",
        f"seed {tune.request.seed}",
    ]
    if report["judge"]:
        best = max(report["judge"], key=report["judge"].__getitem__)
        said.append(f"judged {best} {report['judge'][best]:.0%}")
    if report["copying"]:
        said.append(f"at most {report['copying']['steps']} steps known music")
    said += report["notes_on_request"]
    return printable(f"{_named(stem, '.mid')}: {', '.join(said)}")


def _named(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)
