"""``deepmusic doctor``: what is installed, what works here, and what to do about the rest."""

from __future__ import annotations

import io
import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from typing import TYPE_CHECKING, BinaryIO, Literal

import click

from deepmusic.cli.output import printable
from deepmusic.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Status = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        section: ``python``, ``package``, ``format``, ``device``, ``extra``, ``model`` or ``sound``.
        name: what was looked at.
        status: ``ok``; ``note``, something is missing that one can do without; ``broken``,
            something essential does not work.
        detail: what was found.
        advice: what to do; None where there is nothing to do.
    """

    section: str
    name: str
    status: Status
    detail: str
    advice: str | None = None


# Distribution to the module that must be importable.
_PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "soundfile": "soundfile",
    "soxr": "soxr",
    "av": "av",
    "torch": "torch",
    "accelerate": "accelerate",
    "safetensors": "safetensors",
    "scikit-learn": "sklearn",
    "matplotlib": "matplotlib",
    "symusic": "symusic",
    "rich": "rich",
    "click": "click",
}
_SLOW_TO_IMPORT = {"accelerate", "scikit-learn", "scipy", "matplotlib"}

# Label, whether one cannot do without it, the library that encodes, container, codec.
_FORMATS = (
    ("wav", True, "soundfile", "WAV", "PCM_16"),
    ("mp3", True, "soundfile", "MP3", "MPEG_LAYER_III"),
    ("flac", True, "soundfile", "FLAC", "PCM_16"),
    ("ogg (vorbis)", True, "soundfile", "OGG", "VORBIS"),
    ("opus", False, "soundfile", "OGG", "OPUS"),
    ("aiff", False, "soundfile", "AIFF", "PCM_16"),
    ("au", False, "soundfile", "AU", "PCM_16"),
    ("m4a (aac)", True, "av", "mp4", "aac"),
    ("m4a (alac)", False, "av", "mp4", "alac"),
    ("aac", False, "av", "adts", "aac"),
    ("wma", False, "av", "asf", "wmav2"),
    ("webm", False, "av", "webm", "libopus"),
)
_RATE = 48_000  # all codecs above take it
_SECONDS = 0.5


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people or for programs.",
)
@click.pass_context
def doctor(ctx: click.Context, form: str) -> None:
    """Say what is installed, what works on this machine, and what to do.

    Exit status 1 when something essential does not work.
    """
    checks = list(examine())
    broken = [check for check in checks if check.status == "broken"]
    if form == "json":
        document = {"ok": not broken, "checks": [asdict(check) for check in checks]}
        click.echo(json.dumps(document, indent=2))
    else:
        _show(checks)
        if broken:
            click.echo(f"\n{len(broken)} essential things do not work.", err=True)
        else:
            click.echo("\nAll that is essential works.")
    ctx.exit(1 if broken else 0)


def examine() -> Iterator[Check]:
    """Look at everything, one check at a time; no check raises."""
    yield Check("python", "deepmusic", "ok", __version__)
    yield Check(
        "python", "python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}"
    )
    for distribution, module in _PACKAGES.items():
        yield _package(distribution, module)
    for label, is_essential, library, container, codec in _FORMATS:
        yield _format(label, is_essential, library, container, codec)
    yield _guarded("device", "device", _device)
    yield _mutagen()
    yield _guarded("model", "classifier", _model)
    yield _guarded("model", "composer", _composer)
    yield _guarded("sound", "soundfont", _soundfont)


def _show(checks: list[Check]) -> None:
    width = max(len(check.name) for check in checks)
    section = ""
    for check in checks:
        if check.section != section:
            section = check.section
            click.echo(f"{section}")
        line = f"  {check.status:<6}  {check.name:<{width}}  {printable(check.detail)}"
        click.echo(line.rstrip())
        if check.advice:
            click.echo(f"  {'':6}  {'':{width}}  -> {check.advice}")


def _package(distribution: str, module: str) -> Check:
    advice = f"pip install --upgrade --force-reinstall {distribution}"
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return Check("package", distribution, "broken", "not installed", advice)
    if distribution not in _SLOW_TO_IMPORT:
        try:
            import_module(module)
        except Exception as error:  # a binary that does not fit this machine fails in many ways
            return Check("package", distribution, "broken", f"{version}: {_said(error)}", advice)
    return Check("package", distribution, "ok", version)


def _format(label: str, is_essential: bool, library: str, container: str, codec: str) -> Check:
    """Encode a short tone, and hear it the way the classifier does."""
    try:
        sound = _ENCODERS[library](container, codec)
    except Exception as error:  # without an encoder nothing is known of the decoder
        return Check("format", label, "note", f"not tried: cannot be made here ({_said(error)})")
    try:
        from deepmusic.audio import open_audio

        with open_audio(sound) as stream:
            heard_s = sum(len(block) for block in stream) / stream.sample_rate
            decoder = stream.decoder
        if abs(heard_s - _SECONDS) > 0.15:
            raise ValueError(f"{heard_s:.2f} s came out of {_SECONDS} s")
    except Exception as error:
        return Check(
            "format",
            label,
            "broken" if is_essential else "note",
            f"cannot be read: {_said(error)}",
            "pip install --upgrade soundfile av",
        )
    return Check("format", label, "ok", f"read by {decoder}")


def _encoded_by_soundfile(container: str, codec: str) -> BinaryIO:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, _tone(), _RATE, format=container, subtype=codec)
    file.seek(0)
    return file


def _encoded_by_av(container: str, codec: str) -> BinaryIO:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=_RATE)
        if not isinstance(stream, av.AudioStream):
            raise ValueError(f"{codec} is no audio codec")
        stream.layout = "mono"
        stream.bit_rate = 64_000  # wmav2 asks for one
        frame = av.AudioFrame.from_ndarray(_tone()[None, :], format="fltp", layout="mono")
        frame.sample_rate = _RATE
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    return file


_ENCODERS: dict[str, Callable[[str, str], BinaryIO]] = {
    "soundfile": _encoded_by_soundfile,
    "av": _encoded_by_av,
}


def _tone() -> NDArray[np.float32]:
    import numpy as np

    time = np.arange(int(_SECONDS * _RATE)) / _RATE
    return (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def _device() -> Check:
    import torch

    threads = torch.get_num_threads()
    cpu = f"cpu, {threads} thread{'s' * (threads != 1)} of {os.cpu_count()} cores"
    if torch.cuda.is_available():
        names = ", ".join(
            torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
        )
        return Check("device", "device", "ok", f"cuda ({names}); {cpu}")
    if torch.backends.mps.is_available():
        return Check("device", "device", "ok", f"mps; {cpu}")
    return Check("device", "device", "ok", f"{cpu}; no GPU (none is needed to classify)")


def _mutagen() -> Check:
    advice = "pip install 'deepmusic[tags]' (only for --write-tags; mutagen is GPL)"
    try:
        import_module("mutagen")
        return Check(
            "extra", "mutagen", "ok", f"{metadata.version('mutagen')}, tags can be written"
        )
    except ImportError:
        return Check("extra", "mutagen", "note", "not installed: tags cannot be written", advice)


def _model() -> Check:
    from deepmusic.pretrained import load

    classifier = load("classifier", device="cpu")
    detail = f"{', '.join(classifier.genres)} (digest {classifier.digest[:16]})"
    return Check("model", "classifier", "ok", detail)


def _composer() -> Check:
    """Compose four bars, and make sound of them."""
    from deepmusic.composer import Request
    from deepmusic.music import render
    from deepmusic.pretrained import load_composer

    composer = load_composer("composer")
    request = Request(style={composer.styles[0]: 1.0}, bars=4, seed=0, candidates=1)
    render(composer.compose(request).score)
    detail = f"{', '.join(composer.styles)} (digest {composer.digest})"
    return Check("model", "composer", "ok", detail)


def _soundfont() -> Check:
    """Play a note with the SoundFont that `generate` would take."""
    from deepmusic.errors import DeepMusicError
    from deepmusic.music import Note, Score, find_soundfont, render

    try:
        found = find_soundfont()
        if found is None:
            return Check("sound", "soundfont", "note", "none found: the built-in synthesiser plays")
        render(Score(480, (Note(0, 480, 69),)), soundfont=found)
    except DeepMusicError as error:
        advice = "name another SoundFont by the environment variable DEEPMUSIC_SOUNDFONT"
        return Check("sound", "soundfont", "broken", _said(error), advice)
    return Check("sound", "soundfont", "ok", str(found))


def _guarded(section: str, name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:
        advice = "pip install --upgrade --force-reinstall deepmusic"
        return Check(section, name, "broken", _said(error), advice)


def _said(error: Exception) -> str:
    first = " ".join(str(error).split())
    return first if len(first) <= 160 else first[:157] + "..."
