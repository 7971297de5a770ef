"""Every odd file through the decoder: sound of the true length, or a reason in one sentence.

One child process decodes them all, so that a hang, a crash, stray output or memory eaten is seen.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peak_memory import PEAK_MB

ODD = Path(__file__).resolve().parents[3] / "shared" / "data" / "odd"

DECODE_ALL = (
    PEAK_MB
    + """
import json, sys
from deepmusic.audio import open_audio
from deepmusic.errors import AudioError

results = {}
for path in json.load(sys.stdin):
    try:
        with open_audio(path) as stream:
            samples = sum(len(block) for block in stream)
        results[path] = {
            "seconds": stream.duration_s, "samples": samples, "sample_rate": stream.source_rate,
            "channels": stream.channels, "decoder": stream.decoder, "warning": stream.warning,
        }
    except AudioError as error:
        results[path] = {"code": error.code, "message": str(error)}
json.dump({"results": results, "memory_mb": peak_mb()}, sys.stdout)
"""
)

# Damage in mid-stream: at least this many seconds are decoded.
DAMAGED = {"audio/mp3/block_flipped.mp3": 5.2, "audio/mp3/block_zeroed.mp3": 4.5}

# Sound was lost, or may have been, and the warning says how much was decoded.
WARNED = {
    *DAMAGED,
    "audio/mp3/cut_mid_frame.mp3",
    "audio/mp3/block_missing.mp3",
    "audio/mp3/xing_claims_hours.mp3",
    "audio/wav/cut_in_sample.wav",
    "audio/wav/float_nan.wav",
    "audio/wav/float_inf.wav",
    "audio/flac/truncated.flac",
    "audio/flac/bad_frame.flac",
    "audio/ogg/vorbis_truncated.ogg",
    "audio/ogg/page_crc_wrong.ogg",
}

CODES = {
    "audio/not/empty.mp3": "empty",
    "audio/not/text.mp3": "not_audio",
    "audio/not/png.mp3": "not_audio",
    "audio/not/video_only.mp4": "no_sound_track",
    "audio/names/song.mp3": "directory",
    "audio/wav/no_frames.wav": "no_sound",
    "audio/wav/rate_1hz.wav": "bad_rate",
    "audio/wav/unknown_codec.wav": "unknown_codec",
    "audio/wav/float_all_nan.wav": "not_finite",
    "audio/wav/float_huge.wav": "not_finite",
    "audio/pcm/rate_infinite.aiff": "bad_rate",
    "audio/flac/header_only.flac": "no_sound",
    "audio/signal/one_sample.wav": "too_short",
    "audio/other/playlist.m3u": "not_audio",
}

# "either" in the manifest, and decoded by us in full.
DECODED = {
    "audio/mp3/rate_changes.mp3",
    "audio/mp3/free_format.mp3",
    "audio/mp3/in_riff.wav",
    "audio/wav/data_claims_zero.wav",
    "audio/wav/data_before_fmt.wav",
    "audio/flac/bad_frame.flac",
    "audio/flac/claims_max.flac",
    "audio/flac/bomb_3h.flac",
    "audio/ogg/chained.ogg",  # the second link has another rate: neither library goes on by itself
    "audio/ogg/flac.ogg",
    "audio/ogg/granule_huge.ogg",
    "audio/signal/opposite_phase.flac",
    "audio/signal/tone_0.1s.wav",
}


ROWS: dict[str, dict[str, str]] = {}
if (ODD / "manifest.csv").exists():
    with open(ODD / "manifest.csv", encoding="utf-8", newline="") as table:
        ROWS = {row["file"]: row for row in csv.DictReader(table)}


@pytest.fixture(scope="session")
def decoded(shared_data: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", DECODE_ALL],
        input=json.dumps([str(ODD / name) for name in ROWS]),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report | {"stderr": done.stderr}


@pytest.mark.slow
def test_no_output_and_bounded_memory(decoded: dict[str, Any]) -> None:
    assert decoded["stderr"] == ""
    assert decoded["memory_mb"] < 300  # among them a bomb of 3.8 GB and claims of terabytes
    assert len(decoded["results"]) == len(ROWS) > 200


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_odd_file(name: str, decoded: dict[str, Any]) -> None:
    row = ROWS[name]
    result = decoded["results"][str(ODD / name)]
    expectation = row["expectation"] if row["kind"] == "audio" else "reason"
    if name in CODES:
        assert result.get("code") == CODES[name]
    if "code" in result:
        assert expectation in ("reason", "either"), result["message"]
        assert name not in DECODED
        message = result["message"]
        assert message.startswith(repr(str(ODD / name)))
        assert message.endswith(".")
        assert "regular file (possibly" not in message
        return
    assert expectation in ("verdict", "either")
    assert result["samples"] == pytest.approx(result["seconds"] * 22050, abs=3)
    is_noted = name == "audio/signal/opposite_phase.flac"
    assert (result["warning"] is not None) == (name in WARNED or is_noted), result["warning"]
    if name in WARNED:
        seconds = result["warning"].split(" s of sound was decoded")[0]
        assert float(seconds) == pytest.approx(result["seconds"], abs=0.051)
    if name in DAMAGED:
        assert DAMAGED[name] < result["seconds"] <= float(row["seconds"])
    elif (expectation == "verdict" or name in DECODED) and row["seconds"]:
        assert result["seconds"] == pytest.approx(float(row["seconds"]), abs=0.2)
    if row["rate"]:
        assert result["sample_rate"] == int(row["rate"])
    if row["channels"]:
        assert result["channels"] == int(row["channels"])
