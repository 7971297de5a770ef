from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from deepmusic.audio.genre_names import (
    GenreNames,
    GenreRules,
    folded,
    is_placeholder,
    read_genre_rules,
)
from deepmusic.errors import DataError

TREE = """\
- electronic:
    - house:
        - acid house
    - drum and bass
- hip hop:
    - jazz rap
- rock:
    - alternative rock:
        - indie rock
"""
ALIASES = r"""
# as beets ships them
drum and bass:
    - d(rum)?[ &n/]*b(ass)?
rhythm and blues:
    - r(hythm)?[ &n/]*b(lues)?
\g<1> hop:
    - (hip|trip)[ /-]*hop
\g<1> rock:
    - (alt|alternative|indie)([ /-]*rock)?
"""


@pytest.mark.parametrize(
    "spellings",
    [
        ("hip-hop", "Hip Hop", "HipHop", "HIP‐HOP", " hip_hop "),
        (
            "Drum & Bass",
            "drum and bass",
            "Drum'n'Bass",
            "Drum 'n' Bass",
            "drum n bass",
            "Drum+Bass",
        ),
        ("R&B", "r and b", "R 'n' B", "R&b"),
        ("Ræggae", "RÆGGAE"),
        ("Música", "musica", "Mu\u0301sica"),
        ("演歌", "演歌"),
        ("Rock", "rock", "ROCK", "Ｒｏｃｋ"),
    ],
)
def test_spellings_of_one_genre(spellings: tuple[str, ...]) -> None:
    assert len({folded(spelling) for spelling in spellings}) == 1
    for spelling in spellings:
        assert GenreNames([spellings[1]])([spelling]) == (spellings[1],)


def test_different_genres_are_not_folded() -> None:
    genres = ["rock", "folk", "folk rock", "punk", "pop", "hip-hop", "trip-hop", "r&b", "+", "???"]
    assert len({folded(genre) for genre in genres}) == len(genres)


@given(st.text(min_size=1))
def test_any_text_has_a_fold_that_does_not_fold_further(genre: str) -> None:
    assert folded(genre)
    assert folded(genre.upper().lower()) == folded(genre.lower())


def test_the_most_used_spelling_of_the_library_wins() -> None:
    names = GenreNames(["Rock", "rock", "Rock", "Hip Hop", "Hip-Hop", "Other", ""])
    assert names(["rock", "jazz"]) == ("Rock", "jazz")
    assert names(["hip-hop"]) in (("Hip Hop",), ("Hip-Hop",))
    assert names(["other"]) == ("other",)  # of placeholders no spelling is learned
    assert names(["rock", "ROCK"]) == ("Rock",)


@pytest.mark.parametrize("genre", ["Other", "unknown", "MISC", "Misc.", "Genre", "<unknown>", "-"])
def test_placeholders(genre: str) -> None:
    assert is_placeholder(genre)


@pytest.mark.parametrize("genre", ["Rock", "Brother", "Generic Rock", "Other Latin", "12", "演歌"])
def test_what_is_no_placeholder(genre: str) -> None:
    assert not is_placeholder(genre)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.csv", "genre,name\nhip-hop,Rap\nindie,Indie; Rock\nambient,\n# no rule\n"),
        ("map.tsv", "Hip Hop\tRap\nindie\tIndie; Rock\n\nambient\t\n"),
        ("map.toml", 'hip-hop = "Rap"\nindie = ["Indie", "Rock"]\nambient = []\n'),
        ("map.yaml", "hip-hop: Rap\nindie: Indie; Rock\nambient:\n"),
    ],
)
def test_a_map_decides(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8-sig" if name == "map.csv" else "utf-8")
    names = GenreNames(["Hip-Hop", "ambient"], read_genre_rules([path]))
    assert names(["hiphop"]) == ("Rap",)
    assert names(["indie", "rock"]) == ("Indie", "Rock")
    assert names(["ambient"]) == ()
    assert names(["jazz"]) == ("jazz",)


def rules(folder: Path, **texts: str) -> GenreRules:
    paths = [folder / f"{name}.{'txt' if name == 'genres' else 'yaml'}" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, "utf-8")
    return read_genre_rules(paths)


def test_the_tree_and_the_aliases_of_beets(tmp_path: Path) -> None:
    both = rules(tmp_path, tree=TREE, aliases=ALIASES, genres="# mine\nJazz\n\nRhythm & Blues\n")
    empty = GenreNames([], both)
    assert empty(["hip-hop", "r&b", "jazz", "indie"]) == (
        "hip hop", "Rhythm & Blues", "Jazz", "indie rock",
    )  # fmt: skip
    names = GenreNames(["Rock", "DnB", "Electronic", "Hip-Hop"], both)
    assert names(["indie"]) == ("Rock",)  # the library has no other
    assert names(["drum & bass"]) == ("DnB",)
    assert names(["acid house", "electronic"]) == ("Electronic",)
    assert names(["jazz rap", "Trip Hop"]) == ("Hip-Hop", "trip hop")


def test_a_tree_without_aliases_spells_what_the_library_lacks(tmp_path: Path) -> None:
    names = GenreNames(["Jazz"], rules(tmp_path, tree=TREE))
    assert names(["HipHop", "Drum & Bass", "polka"]) == ("hip hop", "drum and bass", "polka")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.csv", "rock,Rock,Pop\n", "line 1: a row is a genre .* got 3 columns"),
        ("a.csv", "rock\n", "got 1 columns"),
        ("a.toml", "rock = 1\n", "'rock' has neither a name nor a list; got 1"),
        ("a.toml", "rock = \n", "is damaged"),
        ("a.yaml", "rock: [unclosed\n", "is not YAML"),
        ("a.yaml", "3\n", "holds no names"),
        ("a.yaml", "rock: ['(']\n", "the alias '\\('"),
        ("a.yaml", "\\g<2> rock: [(a)]\n", "the alias '\\(a\\)'"),
        ("a.yaml", "rock: 4\n", "'rock' has neither"),
        ("a.docx", "", "read from .csv"),
        ("a.csv", "rock,Ro\x07ck\n", "is not one line"),
        ("gone.csv", None, "cannot be read"),
    ],
)
def test_files_that_cannot_be_used(
    name: str, text: str | None, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=sentence) as caught:
        read_genre_rules([path])
    assert "\n" not in str(caught.value)
