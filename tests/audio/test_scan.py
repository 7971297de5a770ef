"""Scans of files: levels by hand, faults, and a cache by content."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sounds import music

from deepmusic.audio import scan
from deepmusic.audio.fingerprint import acoustic_fingerprint
from deepmusic.audio.scan import LevelMeter, scan_file, scan_files
from deepmusic.errors import DataError

RATE = 16000


def levels(
    sound: NDArray[np.float32], codec: str = "pcm_s16", sample_rate: int = 1000
) -> dict[str, float]:
    meter = LevelMeter()
    for start in range(0, len(sound), sample_rate):
        meter.add(sound[start : start + sample_rate], sample_rate, codec)
    return meter.levels()


def test_levels_by_hand() -> None:
    sound = np.zeros((2000, 2), np.float32)
    sound[500:1000, 0] = 0.5
    sound[0:500, 1] = -0.25 + 0.0004 * np.tile([1, -1], 250)
    measured = levels(sound)
    assert measured == {
        "peak": pytest.approx(0.5),
        "level_db": None,  # nothing is audible
        "bandwidth_hz": None,  # it is too short
        "offset": pytest.approx(0.125),
        "silent_share": 1,  # a constant is inaudible, and so is -68 dB
        "zero_share": 0.5,
        "clipped_share": 0,
    }
    assert levels(sound + 0.01 * np.tile([[1], [-1]], (1000, 1)))["silent_share"] == 0
    loud = np.zeros((2000, 2), np.float32)
    loud[:500, 1] = 0.1 * np.tile([1, -1], 250)
    assert levels(loud)["level_db"] == pytest.approx(-23, abs=0.02)  # silence does not count


@pytest.mark.parametrize(
    ("values", "codec", "clipped"),
    [
        ([1, 1, 1, 0], "pcm_s16", 3),
        ([1, 1, 0, 1], "pcm_s16", 0),
        ([-1, -1, -1, -1], "pcm_s16", 4),
        ([1, 1, -1, -1], "pcm_s16", 0),
        ([1.2, 1.3, 1.1, 0], "mp3", 3),
        ([0.99] * 4, "pcm_s16", 0),
        ([127 / 128] * 4, "pcm_u8", 4),
        ([32767 / 32768] * 4, "pcm_s16", 4),
    ],
)
def test_clipping_is_a_run_at_full_scale(values: list[float], codec: str, clipped: int) -> None:
    sound = np.zeros((100, 1), np.float32)
    sound[10:14, 0] = values
    assert levels(sound, codec)["clipped_share"] == pytest.approx(clipped / 100)


def test_nan_and_infinite_samples_count_as_silence() -> None:
    sound = np.zeros((1000, 1), np.float32)
    sound[3], sound[500], sound[700] = np.nan, np.inf, 0.5
    measured = levels(sound)
    assert (measured["peak"], measured["offset"]) == (0.5, pytest.approx(0.0005))


def write(path: Path, sound: NDArray[np.float32], sample_rate: int = RATE) -> Path:
    soundfile.write(path, sound, sample_rate)
    return path


def test_scan_of_a_file(tmp_path: Path) -> None:
    sound = music(6, 6)
    path = write(tmp_path / "a.wav", np.stack([sound, -sound], axis=1))
    scan = scan_file(path, algorithm="sha1")
    data = path.read_bytes()
    assert (scan.code, scan.error, scan.damage, scan.faults) == ("", "", "", ())
    assert scan.notes == {
        "channels_cancel": "Its channels cancel for 6.0 s: mixed to mono, one of them is inverted "
        "there."
    }
    assert (scan.sample_rate, scan.channels) == (RATE, 2)
    assert (scan.container, scan.codec) == ("wav", "pcm_s16")
    assert scan.duration_s == pytest.approx(6, abs=1e-4)
    assert (scan.bit_rate, scan.bandwidth_hz) == (2 * 16 * RATE, RATE // 2)
    assert scan.header_s == pytest.approx(6, abs=1e-4)
    assert scan.mono_share < 1e-4
    assert scan.sha256 == hashlib.sha256(data).hexdigest()
    assert scan.checksum == hashlib.sha1(data).hexdigest()
    mono = scan_file(write(tmp_path / "b.wav", sound))
    assert mono.mono_share == 1
    assert len(mono.fingerprint) == len(acoustic_fingerprint(sound, RATE))


def test_damage_has_codes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music(6, 7))
    path.write_bytes(path.read_bytes()[:-100_000])
    scan = scan_file(path)
    assert scan.faults == ("cut_off",)
    assert scan.damage.startswith("2.9 s of sound was decoded")
    assert scan_file(tmp_path / "none.wav").code == "missing"
    path.write_bytes(b"fLaC")
    assert scan_file(path).code == "not_audio"


def scans(paths: list[str], **options: Any) -> dict[str, dict[str, Any]]:
    """The fields of each scan by path."""
    found = {scan.path: asdict(scan) for scan in scan_files(paths, **options)}
    for fields in found.values():
        fields["fingerprint"] = fields["fingerprint"].tolist()
    return found


def test_a_second_run_decodes_only_new_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    paths = [str(write(tmp_path / f"{n}.wav", music(2, n))) for n in range(3)]
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    paths.append(str(tmp_path / "bad.wav"))
    first = scans(paths, cache=cache)
    assert [first[path]["code"] for path in paths] == ["", "", "", "not_audio"]
    # one is moved, one is changed, one stays
    (tmp_path / "0.wav").rename(tmp_path / "moved.wav")
    paths[0] = str(tmp_path / "moved.wav")
    write(tmp_path / "1.wav", music(3, 9))
    fresh = scans(paths)
    decoded: list[str] = []
    measure = scan._measure
    monkeypatch.setattr(
        scan, "_measure", lambda path, limit: decoded.append(path) or measure(path, limit)
    )
    assert scans(paths, cache=cache) == fresh
    assert decoded == [paths[1], paths[3]]
    with pytest.raises(DataError, match="other settings"):
        scans(paths, cache=cache, max_seconds=5)


def test_a_cached_scan_without_the_checksum_is_repeated(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.wav", music(2, 1)))
    (first,) = scans([path], cache=tmp_path / "cache").values()
    (second,) = scans([path], cache=tmp_path / "cache", algorithm="md5").values()
    assert (first["checksum"], len(second["checksum"])) == ("", 32)


def test_a_checksum_is_that_of_the_present_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music(2, 1))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    for _ in range(2):
        found = scans([str(path)], cache=tmp_path / "cache", algorithm="md5")[str(path)]
        assert found["checksum"] == hashlib.md5(path.read_bytes()).hexdigest()
        # a disk that rots leaves size and time as they were
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        os.utime(path, (1_000_000_000, 1_000_000_000))
