"""The sound of scores: pitch, loudness, silence, panning; SoundFonts good, damaged and missing."""

from __future__ import annotations

import signal
import struct
import subprocess
import wave
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from deepmusic.errors import DeepMusicError, ScoreError
from deepmusic.music import (
    Note,
    Part,
    Score,
    find_soundfont,
    render,
    sound,
    write_wav,
)
from deepmusic.music.synth import BAND, TIMBRES, timbre_name

RATE = 22050  # enough for these sounds, and twice as quick
FIRST_PROGRAM = {timbre_name(program): program for program in reversed(range(128))}


def one_note(pitch: int = 69, beats: int = 4, velocity: int = 90, **part: Any) -> Score:
    """One note at 120 beats per minute; ``part`` has the fields of its `Part`."""
    return Score(480, (Note(0, 480 * beats, pitch, velocity),), parts=(Part(**part),))


def rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean()))


def cents_from(frequency: float, samples: NDArray[np.float32]) -> float:
    """How far the nearest partial, the centroid of its power, is from a frequency."""
    size = 2**19
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size)) ** 2
    frequencies = np.fft.rfftfreq(size, 1 / RATE)
    near = np.abs(np.log2(np.maximum(frequencies, 1) / frequency)) < 0.06
    centre = (power[near] @ frequencies[near]) / power[near].sum()
    return float(1200 * np.log2(centre / frequency))


def centroid(samples: NDArray[np.float32]) -> float:
    """The middle of the power of a spectrum, in Hz."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float(power @ np.fft.rfftfreq(len(samples), 1 / RATE) / power.sum())


def test_every_timbre_has_a_program() -> None:
    assert set(FIRST_PROGRAM) == set(TIMBRES)


@pytest.mark.parametrize("name", TIMBRES)
def test_an_instrument_is_in_tune_without_clicks_and_dies_away(name: str) -> None:
    samples = render(one_note(program=FIRST_PROGRAM[name]), sample_rate=RATE)
    assert samples.shape == (int((2 + sound.TAIL_S) * RATE), 2)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert 0.05 < np.abs(samples).max() <= 1
    held = samples[: 2 * RATE].mean(axis=1)
    assert abs(cents_from(440, held)) < 5
    # it begins and ends softly: a click is a step as high as the sound
    peak = np.abs(samples).max()
    steps = np.abs(np.diff(samples, axis=0, prepend=0))
    assert steps[:4].max() < 0.15 * peak
    end = slice(2 * RATE - 10, 2 * RATE + RATE // 5)
    assert steps[end].max() <= 1.05 * steps[RATE : 2 * RATE - 10].max()
    assert rms(samples[-RATE // 20 :]) < 1e-4 * peak
    assert abs(samples.mean()) < 1e-3  # no offset


@pytest.mark.parametrize("name", TIMBRES)
def test_louder_is_louder_and_brighter(name: str) -> None:
    soft, loud = (
        render(one_note(velocity=velocity, beats=1, program=FIRST_PROGRAM[name]), sample_rate=RATE)
        for velocity in (40, 110)
    )
    assert rms(loud) > 2.5 * rms(soft)
    assert centroid(loud[:, 0]) > centroid(soft[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("pitch", [0, 21, 108, 127])
@pytest.mark.parametrize("sample_rate", [8000, 96000])
def test_no_partial_is_aliased(pitch: int, sample_rate: int) -> None:
    for program in (0, 12, 48, 73):
        samples = render(one_note(pitch, beats=1, program=program), sample_rate=sample_rate)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 1
        assert samples.any() or 440 * 2 ** ((pitch - 69) / 12) > BAND * sample_rate
    if pitch == 108 and sample_rate > 2 * 4186 / BAND:  # nothing sounds below its fundamental
        samples = render(one_note(pitch, program=19), sample_rate=sample_rate)
        power = np.abs(np.fft.rfft(samples[:, 0])) ** 2
        below = int(0.9 * 4186 / sample_rate * len(power) * 2)
        assert power[:below].sum() < 1e-3 * power.sum()


def test_many_loud_notes_do_not_clip_and_keep_their_form() -> None:
    notes = tuple(Note(0, 960, pitch, 127) for pitch in range(30, 90))
    crowd = render(Score(480, notes, parts=(Part(program=19),)), sample_rate=RATE)
    assert np.abs(crowd).max() == pytest.approx(sound._PEAK, abs=1e-3)
    # turned down, not cut off: few samples are near the peak
    assert np.mean(np.abs(crowd) > 0.97) < 1e-3


def test_parts_are_panned_in_a_room() -> None:
    parts = tuple(Part(program=73) for _ in range(3))

    def balance(part: int) -> float:
        samples = render(Score(480, (Note(0, 960, 64, 90, part),), parts=parts), sample_rate=RATE)
        left, right = (rms(samples[:RATE, side]) for side in (0, 1))
        return left / right

    left, middle, right = (balance(part) for part in range(3))
    assert left > 1.5 > 1.25 > middle > 0.8 > 0.67 > right
    samples = render(one_note(64, beats=1, program=19), sample_rate=RATE)
    after = samples[int(0.8 * RATE) : int(1.2 * RATE)]  # the note and its release are over
    assert rms(after) > 1e-4
    assert abs(np.corrcoef(after.T)[0, 1]) < 0.9  # the room answers otherwise on either side


def test_drums_differ_in_spectrum_and_decay() -> None:
    kick, snare, hat = (
        render(one_note(pitch, is_drum=True), sample_rate=RATE)[: RATE // 2, 0]
        for pitch in (36, 38, 42)
    )
    assert centroid(kick) < 300 < 1000 < centroid(snare) < centroid(hat)
    crash = render(one_note(49, is_drum=True), sample_rate=RATE)
    assert rms(crash[RATE // 2 : RATE, 0]) > 5 * rms(hat[RATE // 4 :])  # it rings on
    piano = render(one_note(36), sample_rate=RATE)[: RATE // 2, 0]
    assert abs(np.corrcoef(kick, piano)[0, 1]) < 0.5
    for pitch in range(25, 90, 5):
        samples = render(one_note(pitch, beats=1, is_drum=True), sample_rate=RATE)
        assert 0.005 < np.abs(samples).max() <= 1


def test_a_score_without_notes_is_silent() -> None:
    assert render(Score(480, ()), sample_rate=RATE).shape == (0, 2)
    silence = render(Score(480, (), end=960), sample_rate=RATE)
    assert silence.shape == (RATE, 2)
    assert not silence.any()


def test_long_scores_and_bad_rates_are_refused() -> None:
    long = Score(480, (Note(480 * 100_000, 480, 60),))
    with pytest.raises(ScoreError, match=r"lasts 13\.9 hours; sound is made of up to 3") as caught:
        render(long)
    assert caught.value.code == "too_long"
    for sample_rate in (0, 7999, 192_001):
        with pytest.raises(ValueError, match="the sample rate is 8,000 to 192,000"):
            render(one_note(), sample_rate=sample_rate)


def test_a_wav_file_holds_what_is_rendered(tmp_path: Path) -> None:
    score = one_note(beats=1)
    write_wav(score, tmp_path / "a.wav", sample_rate=RATE)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:4] == (2, 2, RATE, 3 * RATE)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    np.testing.assert_allclose(samples / 32767, render(score, sample_rate=RATE), atol=0.51 / 32767)
    with pytest.raises(DeepMusicError, match="its folder does not exist"):
        write_wav(score, tmp_path / "none" / "a.wav", sample_rate=RATE)


# ---- SoundFonts


def sine_font() -> bytes:
    """A whole SoundFont of one instrument: a sine of 441 Hz at 44,100 Hz as its key 69."""
    loop = 100
    sine = (20000 * np.sin(2 * np.pi * np.arange(4410) / loop)).astype("<i2").tobytes()
    sine += bytes(2 * 46)

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    def named(name: str, layout: str, *numbers: int) -> bytes:
        return struct.pack("<20s" + layout, name.encode(), *numbers)

    info = chunk(b"ifil", struct.pack("<HH", 2, 1)) + chunk(b"isng", b"EMU8000\0")
    info += chunk(b"INAM", b"sine\0\0")
    mode, sample, instrument = (54, 1), (53, 0), (41, 0)
    tables = {
        b"phdr": named("sine", "HHHIII", 0, 0, 0, 0, 0, 0)
        + named("EOP", "HHHIII", 0, 0, 1, 0, 0, 0),
        b"pbag": struct.pack("<4H", 0, 0, 1, 0),
        b"pmod": bytes(10),
        b"pgen": struct.pack("<4H", *instrument, 0, 0),
        b"inst": named("sine", "H", 0) + named("EOI", "H", 1),
        b"ibag": struct.pack("<4H", 0, 0, 2, 0),
        b"imod": bytes(10),
        b"igen": struct.pack("<6H", *mode, *sample, 0, 0),
        b"shdr": named("sine", "5IBbHH", 0, 4410, loop, 40 * loop, 44100, 69, 0, 0, 1)
        + named("EOS", "5IBbHH", 0, 0, 0, 0, 0, 0, 0, 0, 0),
    }
    body = chunk(b"LIST", b"INFO" + info) + chunk(b"LIST", b"sdta" + chunk(b"smpl", sine))
    presets = b"".join(chunk(name, table) for name, table in tables.items())
    body += chunk(b"LIST", b"pdta" + presets)
    return chunk(b"RIFF", b"sfbk" + body)


@pytest.fixture
def font(tmp_path: Path) -> Path:
    path = tmp_path / "sine.sf2"
    path.write_bytes(sine_font())
    return path


@pytest.mark.slow
def test_a_soundfont_plays_a_score(font: Path) -> None:
    score = one_note(69, beats=4)
    samples = render(score, sample_rate=RATE, soundfont=font)
    assert samples.shape == render(score, sample_rate=RATE).shape
    assert samples.dtype == np.float32
    assert 0 < np.abs(samples).max() <= 1
    assert abs(cents_from(441, samples[RATE // 2 : RATE * 3 // 2, 0])) < 5
    assert rms(samples[-RATE // 2 :]) < 0.01 * rms(samples[:RATE])
    crowd = Score(480, tuple(Note(0, 960, pitch, 127) for pitch in range(40, 100)))
    assert np.abs(render(crowd, sample_rate=RATE, soundfont=font)).max() <= 1
    assert not render(Score(480, (), end=480), sample_rate=RATE, soundfont=font).any()


def test_a_bad_soundfont_leaves_no_file(tmp_path: Path) -> None:
    for name, content, message in (
        ("missing", None, "does not exist"),
        ("empty", b"", "is not a SoundFont"),
        ("text", b"no font at all, but text", "is not a SoundFont"),
    ):
        path = tmp_path / f"{name}.sf2"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DeepMusicError, match=rf"{name}\.sf2.*{message}"):
            write_wav(one_note(), tmp_path / "out.wav", sample_rate=RATE, soundfont=path)
    assert not (tmp_path / "out.wav").exists()
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(DeepMusicError, match="is a folder, not a SoundFont"):
        render(one_note(), soundfont=tmp_path)


@pytest.mark.slow
def test_a_damaged_soundfont_is_refused_or_played(
    font: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "_TIMEOUT_S", 2.0)
    whole, path, out = font.read_bytes(), tmp_path / "bad.sf2", tmp_path / "out.wav"
    wild = bytearray(whole)
    position = whole.index(b"igen") + 8 + 6
    wild[position : position + 2] = b"\xff\x7f"  # no such sample
    for content in (whole[: len(whole) // 2], bytes(wild)):
        path.write_bytes(content)
        with suppress(DeepMusicError):  # otherwise memory behind the samples was played
            write_wav(one_note(), out, sample_rate=RATE, soundfont=path)
            assert soundfile.info(out).samplerate == RATE
            out.unlink()
        assert not out.exists()
    assert not list(tmp_path.glob(".*"))

    def crash(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(-signal.SIGSEGV, command)

    monkeypatch.setattr(subprocess, "run", crash)
    with pytest.raises(DeepMusicError, match="cannot be played; it is damaged"):
        write_wav(one_note(), out, sample_rate=RATE, soundfont=path)
    assert not out.exists()


def test_a_soundfont_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sound.SOUNDFONT_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "shared"))
    assert find_soundfont() is None
    general = tmp_path / "shared" / "sounds" / "sf2" / "FluidR3_GM.sf2"
    default = tmp_path / "shared" / "sounds" / "sf3" / "default-GM.sf3"
    for path in (general, default):
        path.parent.mkdir(parents=True)
        path.with_name("piano.sf2").touch()
        assert find_soundfont() is None or path == default
        path.touch()
        assert find_soundfont() == path
    named = tmp_path / "mine.sf2"
    monkeypatch.setenv(sound.SOUNDFONT_VARIABLE, str(named))
    with pytest.raises(DeepMusicError, match=r"DEEPMUSIC_SOUNDFONT names .*mine\.sf2"):
        find_soundfont()
    named.touch()
    assert find_soundfont() == named
