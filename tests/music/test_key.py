"""Keys: their names, and the key of made cadences."""

from __future__ import annotations

import numpy as np
import pytest

from deepmusic.music import Grid, Key, KeySignature, Part, estimate_key

ALL = [Key(tonic, is_minor) for is_minor in (False, True) for tonic in range(12)]
# I IV V I, i iv V i: (chord, its bass)
CADENCES = {
    False: [(0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7)],
    True: [(0, 3, 7), (5, 8, 12), (7, 11, 14), (0, 3, 7)],
}


def cadence(key: Key, low: int = 48) -> Grid:
    rows = [
        (4 * n, 4, low + key.tonic + pitch)
        for n, chord in enumerate(CADENCES[key.is_minor])
        for pitch in chord
    ]
    onset, duration, pitch = np.array(rows).T
    return Grid(4, 16, onset, duration, pitch)


@pytest.mark.parametrize("key", ALL, ids=lambda key: key.name)
def test_a_cadence_is_in_its_key(key: Key) -> None:
    assert estimate_key(cadence(key)) == key
    assert estimate_key(cadence(key, 24)) == key


@pytest.mark.parametrize("tonic", range(12))
def test_the_last_bass_note_tells_a_key_from_its_relative(tonic: int) -> None:
    """The same time of the same pitch classes, which fits both: one triad, then the other."""
    major, minor = ([0, 4, 7], 8), ([9, 12, 16], 24)
    for (first, long), (last, short), key in (
        (minor, major, Key(tonic, False)),
        (major, minor, Key((tonic + 9) % 12, True)),
    ):
        onset, duration = np.repeat([0, long], 3), np.repeat([long, short], 3)
        pitch = 48 + tonic + np.array([*first, *last])
        assert estimate_key(Grid(4, 32, onset, duration, pitch)) == key


def test_drums_are_ignored_and_c_major_is_the_default() -> None:
    plain = cadence(Key(2, False))
    hits = np.stack([np.arange(16), np.ones(16), np.full(16, 37), np.ones(16)]).astype(int)
    melody = np.stack([plain.onset, plain.duration, plain.pitch, 0 * plain.pitch])
    parts = (Part(), Part(is_drum=True))
    with_drums = Grid(4, 16, *np.concatenate([melody, hits], axis=1), parts=parts)
    assert estimate_key(with_drums) == Key(2, False)
    empty = Grid(4, 16, *np.zeros((3, 0), int))
    only_drums = Grid(4, 4, [0], [4], [38], parts=(Part(is_drum=True),))
    twelve_tones = Grid(4, 12, np.arange(12), np.ones(12, int), 60 + np.arange(12))
    for grid in (empty, only_drums, twelve_tones):
        assert estimate_key(grid) == Key(0, False)


@pytest.mark.parametrize(
    ("text", "tonic", "is_minor"),
    [
        ("C", 0, False), ("c", 0, False), ("am", 9, True), ("Am", 9, True), ("F# minor", 6, True),
        ("f#m", 6, True), ("Bb", 10, False), ("bb", 10, False), ("bbm", 10, True), ("b", 11, False),
        ("Bm", 11, True), ("Cb", 11, False), ("B#", 0, False), ("E♭ major", 3, False),
        ("g♯ min", 8, True), ("D-minor", 2, True), ("  G   maj ", 7, False), ("A m", 9, True),
        ("D MINOR", 2, True), ("Fb minor", 4, True), ("A-", 9, False), ("A M", 9, False),
    ],
)  # fmt: skip
def test_names_of_keys_are_parsed(text: str, tonic: int, is_minor: bool) -> None:
    assert Key.named(text) == Key(tonic, is_minor)


@pytest.mark.parametrize(
    "text",
    ["", " ", "H", "m", "mm", "C##", "Cx", "BB", "C dorian", "C major minor", "major", "#", "é"],
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a key; keys are named like"):
        Key.named(text)


def test_signatures_have_as_many_sharps_as_the_circle_of_fifths() -> None:
    fifths = ["Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#"]
    for sharps, name in enumerate(fifths, start=-5):
        assert Key.named(name).signature == KeySignature(0, sharps, False)
    relatives = ["Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "Db", "Ab", "Eb"]
    for sharps, name in enumerate(relatives, start=-5):
        assert Key.named(f"{name} minor").signature == KeySignature(0, sharps, True)
