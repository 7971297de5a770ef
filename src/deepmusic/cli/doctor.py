"""``deepmusic doctor``: what is installed, what works here, and what to do about the rest."""

from __future__ import annotations

import io
import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from itertools import groupby
from typing import Any, BinaryIO, Literal

import click

from deepmusic.cli.options import format_option
from deepmusic.cli.output import printable
from deepmusic.extras import EXTRAS, LIBRARIES, missing_modules
from deepmusic.version import DISTRIBUTION, __version__, pip_install


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    section: str  # "python", "package", "format", "device", "extra", "model" or "sound"
    name: str  # what was checked
    status: Literal["ok", "note", "broken"]  # "note": something optional is missing
    detail: str  # the finding
    advice: str | None = None  # what to do about it


_PACKAGES = (
    *("numpy", "onnxruntime", "soundfile", "soxr", "av", "safetensors", "matplotlib"),
    *("symusic", "rich", "click"),
)
_USES = {
    "train": "training, export and capsule layers",
    "features": "the 518 features of FMA",
    "data": "FMA's tables, building, splitting and counting data sets",
    "study": "studies, and models of features",
    "musicxml": "writing MusicXML",
    "yaml": "names of genres in YAML, as beets has them",
    "cluster": "work on several machines",
}
"""What each extra is for."""

# Label, whether it is essential, the library that encodes, container, codec.
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
_SAMPLE_RATE = 48_000  # accepted by all codecs above
_SECONDS = 0.5


@click.command()
@format_option("text", "json")
@click.pass_context
def doctor(ctx: click.Context, form: str) -> None:
    """Report what is installed, what works on this machine, and what to do.

    Exit status 1 if something essential does not work.
    """
    checks = list(examine())
    broken = sum(check.status == "broken" for check in checks)
    if form == "json":
        document = {"ok": not broken, "checks": [asdict(check) for check in checks]}
        click.echo(json.dumps(document, indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for section, group in groupby(checks, key=lambda check: check.section):
            click.echo(section)
            for check in group:
                start = f"  {check.status:<6}  {check.name:<{width}}  "
                click.echo(f"{start}{printable(check.detail)}".rstrip())
                if check.advice:
                    click.echo(f"{'':{len(start)}}-> {check.advice}")
        summary = f"Essential, but not working: {broken}." if broken else "All essentials work."
        click.echo(f"\n{summary}", err=bool(broken))
    ctx.exit(1 if broken else 0)


def examine() -> Iterator[Check]:
    """Check everything; no check raises."""
    yield Check("python", "deepmusic", "ok", __version__)
    system = f"{platform.python_version()} on {platform.platform(terse=True)}"
    yield Check("python", "python", "ok", system)
    yield from _namesake()
    for distribution in _PACKAGES:
        advice = f"pip install --upgrade --force-reinstall {distribution}"
        yield _checked("package", distribution, partial(_package, distribution), advice)
    for label, is_essential, library, container, codec in _FORMATS:
        yield _format(label, is_essential, library, container, codec)
    yield _checked("device", "device", _device)
    yield from map(_extra, EXTRAS)
    yield _checked("model", "ear", _ear, "deepmusic ear install")
    yield _checked("model", "classifier", _classifier)
    yield _checked("model", "composer", _composer)
    advice = "name another SoundFont in the environment variable DEEPMUSIC_SOUNDFONT"
    yield _checked("sound", "soundfont", _soundfont, advice)


def _checked(
    section: str, name: str, check: Callable[[], str | Check], advice: str | None = None
) -> Check:
    """The result of a check, which returns what it found; any exception makes it broken."""
    try:
        found = check()
    except Exception as error:  # a binary that does not fit this machine fails in many ways
        advice = advice or f"pip install --upgrade --force-reinstall {DISTRIBUTION}"
        return Check(section, name, "broken", _reason(error), advice)
    return found if isinstance(found, Check) else Check(section, name, "ok", found)


def _reason(error: Exception) -> str:
    message = " ".join(str(error).split())
    return message if len(message) <= 160 else message[:157] + "..."


def _namesake() -> Iterator[Check]:
    """Report the unrelated package ``deepmusic`` of PyPI, whose files may replace ours."""
    try:
        files = metadata.files("deepmusic") or []
    except metadata.PackageNotFoundError:
        return
    names = {file.as_posix() for file in files}
    if "deepmusic/__init__.py" in names and "deepmusic/capsules/__init__.py" not in names:
        detail = "the package 'deepmusic' of PyPI, which is not this one, is installed as well"
        advice = f"pip uninstall deepmusic; pip install --force-reinstall {DISTRIBUTION}"
        yield Check("python", "namesake", "broken", detail, advice)


def _package(distribution: str) -> str:
    version = metadata.version(distribution)
    if distribution != "matplotlib":  # slow
        import_module(distribution)
    return version


def _format(label: str, is_essential: bool, library: str, container: str, codec: str) -> Check:
    """Encode a short tone, and decode it as the classifier does."""
    try:
        sound = _encode(library, container, codec)
    except Exception as error:
        return Check("format", label, "note", f"not tested: no encoder here ({_reason(error)})")
    try:
        from deepmusic.audio import open_audio

        with open_audio(sound) as stream:
            decoded_s = sum(len(block) for block in stream) / stream.sample_rate
        if abs(decoded_s - _SECONDS) > 0.15:
            raise ValueError(f"{decoded_s:.2f} s came out of {_SECONDS} s")
    except Exception as error:
        status: Literal["broken", "note"] = "broken" if is_essential else "note"
        detail = f"cannot be read: {_reason(error)}"
        return Check("format", label, status, detail, "pip install --upgrade soundfile av")
    return Check("format", label, "ok", f"read by {stream.decoder}")


def _encode(library: str, container: str, codec: str) -> BinaryIO:
    """A short tone as a file."""
    import numpy as np

    time = np.arange(int(_SECONDS * _SAMPLE_RATE)) / _SAMPLE_RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    file = io.BytesIO()
    if library == "soundfile":
        import soundfile

        soundfile.write(file, tone, _SAMPLE_RATE, format=container, subtype=codec)
    else:
        import av

        with av.open(file, "w", format=container) as output:
            stream: Any = output.add_stream(codec, rate=_SAMPLE_RATE, layout="mono")
            stream.bit_rate = 64_000  # wmav2 requires one
            frame = av.AudioFrame.from_ndarray(tone[None, :], format="fltp", layout="mono")
            frame.sample_rate = _SAMPLE_RATE
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    file.seek(0)
    return file


def _device() -> str | Check:
    cpu = f"cpu, {os.cpu_count()} cores"
    if find_spec("torch") is None:
        return f"{cpu}; a GPU needs PyTorch (none is needed to classify)"
    try:
        import torch
    except Exception as error:  # built for another system or driver
        detail = f"{cpu}; PyTorch does not work: {_reason(error)}"
        advice = "pip install --upgrade --force-reinstall torch"
        return Check("device", "device", "note", detail, advice)
    threads = torch.get_num_threads()
    cpu = f"cpu, {threads} thread{'s' * (threads != 1)} of {os.cpu_count()} cores"
    if torch.cuda.is_available():
        devices = range(torch.cuda.device_count())
        return f"cuda ({', '.join(map(torch.cuda.get_device_name, devices))}); {cpu}"
    if torch.backends.mps.is_available():
        return f"mps; {cpu}"
    return f"{cpu}; no GPU (none is needed to classify)"


def _extra(extra: str) -> Check:
    """Which libraries of an extra are installed; none is imported."""
    missing = missing_modules(extra)
    if missing:
        titles = ", ".join(LIBRARIES[name] for name in missing)
        detail = f"for {_USES[extra]}; not installed: {titles}"
        return Check("extra", extra, "note", detail, pip_install(extra))
    versions = ", ".join(f"{LIBRARIES[name]} {_version(name)}" for name in EXTRAS[extra])
    return Check("extra", extra, "ok", versions)


def _version(module: str) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version("scikit-learn" if module == "sklearn" else module)
    return "of unknown version"


def _ear() -> str | Check:
    from deepmusic.classifier.ear import ear_path, has_ear, read_ear

    if not has_ear():
        detail = "not installed: four genres are known in place of seventeen"
        return Check("model", "ear", "note", detail, "deepmusic ear install")
    read_ear()
    return f"MSD_vgg of musicnn 0.1.0, in {ear_path()}"


def _classifier() -> str:
    from deepmusic.pretrained import load

    classifier = load("classifier", device="cpu")
    return f"{', '.join(classifier.genres)} (digest {classifier.digest[:16]})"


def _composer() -> str:
    """Compose four bars, and synthesize them."""
    from deepmusic.composer import Request
    from deepmusic.music import render
    from deepmusic.pretrained import load_composer

    composer = load_composer("composer")
    render(composer.compose(Request(bars=4, seed=0, candidates=1)).score)
    return f"{', '.join(composer.styles)} (digest {composer.digest})"


def _soundfont() -> str | Check:
    """Play a note with the SoundFont that `generate` would use."""
    from deepmusic.music import Note, Score, find_soundfont, render

    soundfont = find_soundfont()
    if soundfont is None:
        return Check("sound", "soundfont", "note", "none; the built-in synthesizer plays")
    render(Score(480, (Note(0, 480, 69),)), soundfont=soundfont)
    return str(soundfont)
