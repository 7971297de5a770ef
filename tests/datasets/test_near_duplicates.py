"""Near-duplicates: which recordings are grouped, which are not, and groups in a data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "audio"))
from test_fingerprint import RATE, music

from deepmusic.audio.fingerprint import CODES_PER_SECOND, acoustic_fingerprint
from deepmusic.datasets import group_tracks, near_duplicates as module, scan_folder
from deepmusic.datasets.near_duplicates import sound_groups, sound_matches, with_duplicates


def prints(*sounds: NDArray[np.float32]) -> list[NDArray[np.uint32]]:
    return [acoustic_fingerprint(sound, RATE) for sound in sounds]


def near_duplicates(codes: Sequence[NDArray[np.uint32]]) -> list[list[int]]:
    """The groups of recordings that match."""
    groups = sound_groups([f"{n:03}" for n in range(len(codes))], sound_matches(codes))
    return [
        sorted(int(name) for name in groups if groups[name] == leader)
        for leader in sorted(set(groups.values()))
    ]


def noise(seconds: float, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal(round(seconds * RATE)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("lost_s", [0.0, 1 / 16, 0.2, 3.3, 10.0])
def test_a_softer_noisy_copy_that_starts_later(lost_s: float) -> None:
    sound = music(25, 1)
    copy = 0.2 * sound[round(lost_s * RATE) :] + 0.01 * noise(25 - lost_s, 2)[: len(sound)]
    copy = copy[: round((25 - lost_s) * RATE)]
    assert module._CODES_PER_S == CODES_PER_SECOND
    (match,) = sound_matches([*prints(music(25, 2), sound), *prints(music(25, 3), copy)])
    assert (match.first, match.second) == (1, 3)
    assert match.shift_s == pytest.approx(lost_s, abs=1.5 / CODES_PER_SECOND)
    assert match.share > 0.9
    assert match.shared_s == pytest.approx(25 - lost_s, abs=2)


def test_the_order_makes_no_difference() -> None:
    sound = music(20, 1)
    codes = prints(sound, sound[4 * RATE :], music(20, 2))
    there, back = sound_matches(codes), sound_matches(codes[::-1])
    assert [(m.first, m.second) for m in there] == [(0, 1)]
    assert [(m.first, m.second) for m in back] == [(1, 2)]
    assert there[0].shift_s == -back[0].shift_s == 4.0


@pytest.mark.slow
def test_the_share_is_that_of_the_shorter() -> None:
    sound = music(60, 1)
    inside = sound[40 * RATE : 52 * RATE]
    other = np.concatenate([inside[: 4 * RATE], music(10, 5)])
    groups = near_duplicates(prints(sound, inside, other, music(12, 6)))
    assert groups == [[0, 1]]  # 4 of 14 s are too little
    # parts of one song that do not overlap
    assert near_duplicates(prints(sound[: 28 * RATE], sound[31 * RATE :])) == []


def test_another_sample_rate_and_a_cut_in_the_middle() -> None:
    sound = music(30, 1)
    low = acoustic_fingerprint(soxr.resample(sound, RATE, 16000), 16000)
    edited = np.concatenate([sound[: 12 * RATE], sound[18 * RATE :]])
    codes = [*prints(sound, music(20, 2), edited), low]
    assert near_duplicates(codes) == [[0, 2, 3]]
    assert all(match.share > 0.8 for match in sound_matches(codes))


def test_silence_tones_noise_and_drums_are_not_grouped() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(20 * RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    silence = np.zeros(20 * RATE, np.float32)
    # neither are the same drums under other music
    kick = rng.standard_normal(RATE // 4) * np.exp(-np.arange(RATE // 4) / (0.05 * RATE))
    drums = np.tile(np.append(kick, np.zeros(RATE // 4)), 50)[: 20 * RATE].astype(np.float32)
    one, other = (music(20, seed) + 0.2 * drums for seed in (1, 2))
    codes = prints(
        one, other, tone, tone, silence, silence, noise(20, 1), noise(20, 2), tone[: 9 * RATE]
    )
    assert near_duplicates(codes) == []
    assert near_duplicates([]) == []
    assert near_duplicates([np.zeros(0, np.uint32)] * 3) == []


@pytest.mark.slow
def test_many_copies_are_one_group() -> None:
    sounds = [music(12, seed) for seed in range(3)]
    copies = [sounds[n % 3] + 0.02 * noise(12, n) for n in range(45)]
    groups = near_duplicates(prints(*copies))
    assert groups == [list(range(first, 45, 3)) for first in range(3)]


@pytest.mark.slow
def test_random_codes_do_not_match() -> None:
    rng = np.random.default_rng(0)
    codes = [rng.integers(1, 1 << 32, 400, dtype=np.uint32) for _ in range(300)]
    few = rng.integers(1, 1 << 32, 40, dtype=np.uint32)
    codes += [rng.choice(few, 400) for _ in range(60)]  # crowded keys
    assert sound_matches(codes) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sound = music(12, 1)
    for name, samples in {
        "rock/a.wav": sound,
        "rock/b.flac": 0.5 * sound[2 * RATE :],
        "rock/c.wav": music(12, 2),
        "jazz/d.wav": music(12, 3),
        "jazz/e.wav": music(12, 3),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, samples, RATE)
    (tmp_path / "jazz" / "bad.wav").write_bytes(b"no sound")
    return tmp_path


def test_sound_groups_of_a_data_set(folder: Path) -> None:
    seen = []
    dataset = with_duplicates(scan_folder(folder), on_progress=lambda *n: seen.append(n))
    group = {track.path: track.sound_group for track in dataset.tracks}
    assert group["rock/a.wav"] == group["rock/b.flac"] is not None
    assert {group[name] for name in ("rock/c.wav", "jazz/d.wav", "jazz/e.wav")} == {None}
    assert seen == [(n, 5) for n in range(1, 6)]  # d and e have the same bytes
    assert dataset.notes[-1].startswith("1 of 6 tracks cannot be decoded")
    numbers = dict(zip(group, group_tracks(dataset.tracks), strict=True))
    assert numbers["rock/a.wav"] == numbers["rock/b.flac"] != numbers["rock/c.wav"]
    assert numbers["jazz/d.wav"] == numbers["jazz/e.wav"]


@pytest.mark.slow
def test_a_second_run_decodes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache.db"
    (folder / "jazz" / "bad.wav").unlink()
    dataset = scan_folder(folder)
    first = with_duplicates(dataset, cache=cache, workers=2)
    monkeypatch.setattr("deepmusic.audio.scan._measure", lambda *_: 1 / 0)
    assert with_duplicates(dataset, cache=cache) == first
