from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from deepmusic.datasets import Track, artist_members, group_tracks
from deepmusic.datasets.groups import shared_attributes


def track(path: str, artist: str | None = None, album: str | None = None, sound: str = "") -> Track:
    return Track(path, path.split("/")[0], artist, album, sound or path)


MEMBERS = {  # separated by a bar, of names that are separated by two
    "queen": "Queen || QUEEN || Ｑｕｅｅｎ ||  Queen ",
    "daft punk": "  Daft   Punk ",
    "bjork": "Björk || Bjo\u0308rk",
    "strasse": "Straße",
    "が": "が",
    "beatles": "The Beatles || Beatles, The",
    "rem": "R.E.M.",
    "simon|garfunkel": "Simon & Garfunkel",
    "a-trak|zoe": "A-Trak feat. Zoe || A-Trak (feat. Zoe)",
    "a-trak|zoe|ann": "A-Trak [ft Zoe & Ann]",
    "ann|bob": "Ann featuring Bob || Ann vs. Bob || Ann x Bob || Ann × Bob || Ann/Bob",
    "ann|bob|cid": "Ann; Bob\0Cid || Ann and Bob, Cid",
    "ann": "Ann / DJ || Ann and Friends || Ann, Jr. || Ann & His Orchestra",
    "ac/dc": "AC/DC",
    "m/a/r/r/s": "M/A/R/R/S",
    "ac/dc|queen|dc/queen|ac/dc/queen": "AC/DC/Queen",
    "嵐|queen": "嵐/Queen",
    "ann lee|bob|cid": "Ann Lee/Bob/Cid",
    "西野カナ|宇多田ヒカル": "西野カナ、宇多田ヒカル",
    "10,000 maniacs": "10,000 Maniacs",
    "malcolm x": "Malcolm X",
    "alexander anderson": "Alexander Anderson",
    "band": "The Band",
    "band & friends": "Band & Friends",
    "earth|wind|fire": "Earth, Wind & Fire",
    "!!!": "!!!",
    "prince (us)": "Prince (US)",
    "": "Various Artists || VARIOUS || V.A. || VA || [Unknown] || Unknown Artist || \t",
}


@pytest.mark.parametrize(
    ("name", "members"),
    [(name, members) for members, names in MEMBERS.items() for name in names.split(" || ")],
)
def test_members(name: str, members: str) -> None:
    assert artist_members(name) == set(filter(None, members.split("|")))
    assert artist_members(None) == set()


@given(st.text())
def test_any_name_has_members_that_do_not_depend_on_case_or_space(name: str) -> None:
    members = artist_members(name)
    assert all(member and member == member.strip() for member in members)
    assert artist_members(f"  {name} ") == members


@pytest.mark.parametrize(
    ("artists", "groups"),
    [
        ([], []),
        (["The Band", "Ann & the Band", "Bob & the Band", "Cid, Jr.", "Dan, Jr."], [0, 1, 2, 3, 4]),
        (["Ann", "Bob", "Cid", "ANN feat. bob"], [0, 0, 1, 0]),
        (["AC/DC", "Queen", "Queen/AC/DC", "AC", "DC"], [0, 0, 0, 1, 2]),
        ([None, None, "Various Artists", "VA", "Unknown"], [0, 1, 2, 3, 4]),
    ],
)
def test_tracks_are_grouped_by_artist(artists: list[str | None], groups: list[int]) -> None:
    assert group_tracks([track(f"a/{n}", name) for n, name in enumerate(artists)]) == groups


def test_copies_near_duplicates_and_clips_of_one_recording_are_grouped() -> None:
    tracks = [track(f"a/{n}", sound="x" if n > 4 else "") for n in range(7)]
    tracks[1] = replace(tracks[1], sound_group="x")
    tracks[2] = replace(tracks[2], sound_group="x", source="y")
    tracks[3] = replace(tracks[3], source="y")
    tracks[4] = replace(tracks[4], source="x")  # another kind of thing, though it is called so
    tracks[6] = replace(tracks[6], artist="Bob")
    assert group_tracks(tracks) == [0, 1, 1, 1, 2, 3, 3]


def test_what_tracks_share_is_counted() -> None:
    tracks = [
        track("a/1", "Ann", "One", sound="s"),
        track("a/2", "Ann & Bob", "Two", sound="s"),
        track("b/3", "Bob", "Two"),
        track("b/x/4", "Cid", "Three"),
        track("b/x/5", "Dan", "Three"),
        replace(track("b/6"), source="y"),
        replace(track("b/7"), source="y", sound_group="z"),
    ]
    assert shared_attributes(tracks) == {
        "artist": (2, 3),
        "album": (1, 2),
        "exact copy": (1, 2),
        "near copy": (0, 0),
        "source": (1, 2),
    }
    assert set(shared_attributes([]).values()) == {(0, 0)}


def test_albums_are_grouped_but_not_by_title_alone() -> None:
    hits = "Greatest Hits"
    flat = [track("a/1", "Queen", hits), track("a/2", "ABBA", hits)]
    assert group_tracks(flat) == [0, 1]
    folder = [track("a/now 45/1", "Queen", "Now 45"), track("a/now 45/2", "ABBA", "NOW 45")]
    assert group_tracks(folder) == [0, 0]
    artists = [track("a/queen/1", "Queen", hits), track("a/abba/1", "ABBA", hits)]
    assert group_tracks(artists) == [0, 1]
    anonymous = [track("a/1", "VA", "Now 45"), track("b/2", None, "now 45"), track("b/3", None)]
    assert group_tracks(anonymous) == [0, 0, 1]
    untitled = [track("a/1", None, "Unknown Album"), track("a/2", None, "Unknown Album")]
    assert group_tracks(untitled) == [0, 1]


@pytest.mark.slow
def test_a_long_chain_of_collaborations_is_one_group() -> None:
    tracks = [track(f"a/{n}", f"Name{n} & Name{n + 1}") for n in range(20_000)]
    assert set(group_tracks(tracks[::-1])) == {0}


NAMES = st.lists(st.sampled_from(["Ann", "Bob", "Cid", "Dan", "Eve", "VA"]), min_size=1, max_size=2)
TRACKS = st.lists(
    st.builds(
        lambda names, album, sound: ("; ".join(names), album, sound),
        NAMES,
        st.sampled_from([None, "One", "Two"]),
        st.sampled_from(["", "", "x", "y"]),
    ),
    max_size=12,
).map(lambda rows: [track(f"a/{n}", *row) for n, row in enumerate(rows)])


@pytest.mark.slow
@settings(max_examples=50)
@given(TRACKS)
def test_groups_are_the_connected_components(tracks: list[Track]) -> None:
    """Against a slow search over all pairs."""

    def alike(one: Track, other: Track) -> bool:
        ours, theirs = artist_members(one.artist), artist_members(other.artist)
        return (
            bool(ours & theirs)
            or one.content_hash == other.content_hash
            or (not ours and not theirs and one.album is not None and one.album == other.album)
        )

    groups = group_tracks(tracks)
    for start in range(len(tracks)):
        reached, waiting = {start}, [start]
        while waiting:
            here = tracks[waiting.pop()]
            more = {n for n, t in enumerate(tracks) if alike(here, t)} - reached
            reached |= more
            waiting += more
        assert reached == {n for n, group in enumerate(groups) if group == groups[start]}


def test_emotify_has_the_artists_we_counted(shared_data: Path) -> None:
    with open(shared_data / "emotify" / "tracks.csv", encoding="utf-8", newline="") as file:
        tracks = [track(row["path"], row["artist"], row["album"]) for row in csv.DictReader(file)]
    assert len({t.artist for t in tracks}) == 92
    assert len(set(group_tracks(tracks))) == 91
