"""Splits and folds: no artist, album or copy on two sides, even shares, and their files."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import assume, given, settings, strategies as st

from deepmusic.datasets import (
    Fold,
    FolderDataset,
    Folds,
    Track,
    artist_members,
    data_card,
    group_tracks,
    leaks,
    make_folds,
    make_split,
    read_splits,
    scan_folder,
    splits,
    write_splits,
)
from deepmusic.datasets.split_files import leaking_groups
from deepmusic.datasets.splits import PARTS
from deepmusic.errors import DataError

random_folds = partial(make_folds, protocol="random")
random_split = partial(make_split, protocol="random")
few_draws = patch.object(splits, "_ATTEMPTS", 3)


def dataset_of(*tracks: tuple[str, str | None]) -> FolderDataset:
    """A data set of tracks given as genre and artist."""
    made = [
        Track(f"{genre}/{n:04}.mp3", genre, artist, None, f"hash{n}")
        for n, (genre, artist) in enumerate(tracks)
    ]
    return FolderDataset(Path("music"), tuple(made), tuple(sorted({t.genre for t in made})))


def even(artists: int = 6, tracks: int = 3, genres: str = "ab") -> FolderDataset:
    return dataset_of(
        *((g, f"{g} name {n}") for g in genres for n in range(artists) for _ in range(tracks))
    )


def parts_of(fold: Fold) -> list[tuple[int, ...]]:
    return [getattr(fold, name) for name in PARTS]


def check(fold: Fold, dataset: FolderDataset) -> None:
    """All tracks once, no group on two sides, every genre in every part."""
    assert sorted(sum(parts_of(fold), ())) == list(range(len(dataset.tracks)))
    assert leaking_groups(fold, group_tracks(dataset.tracks)) == []
    for part in parts_of(fold):
        assert list(part) == sorted(part)
        assert {dataset.tracks[index].genre for index in part} == set(dataset.genres)


def check_order(
    make: Callable[[FolderDataset], Folds], dataset: FolderDataset, shuffler: random.Random
) -> None:
    """The order of the tracks makes no difference."""
    shuffled = list(dataset.tracks)
    shuffler.shuffle(shuffled)
    other = replace(dataset, tracks=tuple(shuffled))
    for ours, theirs in zip(make(dataset), make(other), strict=True):
        for one, two in zip(parts_of(ours), parts_of(theirs), strict=True):
            assert {dataset.tracks[i] for i in one} == {other.tracks[i] for i in two}


ARTISTS = st.integers(0, 25).map("artist {}".format)
ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.none() | ARTISTS | st.tuples(ARTISTS, ARTISTS).map(" & ".join),
    ),
    max_size=20,
).map(lambda rows: [*rows, *((genre, f"solo {genre}{n}") for genre in "abc" for n in range(5))])


@pytest.mark.slow
@few_draws
@settings(max_examples=5, deadline=None)
@given(rows=ROWS, folds=st.integers(2, 3), seed=st.integers(0, 5), shuffler=st.randoms())
def test_no_fold_crosses_a_group_and_order_does_not_matter(
    rows: list[tuple[str, str | None]], folds: int, seed: int, shuffler: random.Random
) -> None:
    dataset = dataset_of(*rows)
    try:
        made = make_folds(dataset, folds=folds, seed=seed)
    except DataError:
        assume(False)
    for fold in made:
        check(fold, dataset)
    assert sorted(index for fold in made for index in fold.test) == list(range(len(rows)))
    check_order(partial(make_folds, folds=folds, seed=seed), dataset, shuffler)


def few(prefix: str) -> st.SearchStrategy[str | None]:
    return st.none() | st.integers(0, 12).map(f"{prefix}{{}}".format)


TRACKS = st.lists(
    st.builds(
        Track,
        path=st.just(""),
        genre=st.sampled_from("ab"),
        artist=few("artist ") | st.sampled_from(["Various Artists", "Ann & Bob", "Bob"]),
        album=few("album "),
        content_hash=st.integers(0, 60).map(str),
        sound_group=few("sound "),
        source=few("source "),
    ),
    max_size=25,
)


@pytest.mark.slow
@few_draws
@settings(max_examples=10, deadline=None)
@given(tracks=TRACKS, seed=st.integers(0, 3), folds=st.sampled_from([None, 2, 3]))
def test_nothing_that_tracks_share_is_on_two_sides(
    tracks: list[Track], seed: int, folds: int | None
) -> None:
    """Without group_tracks: artist, album, exact copy, near-duplicate, source of clips."""
    lone = [Track("", genre, None, None, f"lone {genre}{n}") for genre in "ab" for n in range(6)]
    made = tuple(
        replace(track, path=f"{track.genre}/{(track.album or 'x') if n % 2 else ''}/{n}")
        for n, track in enumerate([*tracks, *lone])
    )
    dataset = FolderDataset(Path("music"), made, ("a", "b"))
    divided: Sequence[Fold]
    try:
        if folds is None:
            divided = [make_split(dataset, seed=seed)]
        else:
            divided = make_folds(dataset, folds=folds, seed=seed).folds
    except DataError:
        assume(False)
    for fold in divided:
        side = {index: n for n, part in enumerate(parts_of(fold)) for index in part}
        assert len(side) == len(made)
        for one, first in enumerate(made):
            for other, second in enumerate(made[:one]):
                if side[one] == side[other]:
                    continue
                assert not artist_members(first.artist) & artist_members(second.artist)
                assert first.content_hash != second.content_hash
                assert first.sound_group is None or first.sound_group != second.sound_group
                assert first.source is None or first.source != second.source
                if first.album is not None and first.album == second.album:
                    assert artist_members(first.artist) or artist_members(second.artist)
                    folder = Path(first.path).parent
                    assert folder != Path(second.path).parent or len(folder.parts) < 2


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.integers(4, 30), min_size=2, max_size=4),
    folds=st.integers(2, 4),
    seed=st.integers(0, 3),
    shuffler=st.randoms(),
)
def test_random_folds_are_even_by_genre_alone(
    counts: list[int], folds: int, seed: int, shuffler: random.Random
) -> None:
    rows = [("abcd"[genre], "one artist") for genre, n in enumerate(counts) for _ in range(n)]
    dataset = dataset_of(*rows)
    make = partial(random_folds, folds=folds, seed=seed, validation=0.25)
    made = make(dataset)
    assert made.protocol == "random"
    assert sorted(index for fold in made for index in fold.test) == list(range(len(rows)))
    for fold in made:
        assert sorted(sum(parts_of(fold), ())) == list(range(len(rows)))
        for genre, total in enumerate(counts):
            of_genre = [sum(dataset.labels[i] == genre for i in part) for part in parts_of(fold)]
            assert abs(of_genre[2] - total / folds) < 1
            assert abs(of_genre[1] - 0.25 * (total - of_genre[2])) <= 1
            assert min(of_genre) >= 1
    assert leaking_groups(made[0], group_tracks(dataset.tracks)) == [0]
    check_order(make, dataset, shuffler)


def test_random_splits_have_their_shares() -> None:
    dataset = even(artists=25, tracks=4)
    fold = random_split(dataset, test=0.1, validation=0.3, seed=2)
    assert list(map(len, parts_of(fold))) == [120, 60, 20]
    assert random_split(dataset, test=0).test == ()
    fold = random_split(even(artists=1, tracks=3), test=0.5)
    assert list(map(len, parts_of(fold))) == [2, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("artists", "folds"), [(3, 3), (4, 2), (4, 4)])
def test_the_required_number_of_artists_is_enough(artists: int, folds: int) -> None:
    dataset = even(artists, tracks=1)
    for fold in (*make_folds(dataset, folds=folds), make_split(dataset)):
        check(fold, dataset)


@pytest.mark.slow
def test_parts_have_their_share_of_every_genre() -> None:
    dataset = even(artists=50, tracks=2, genres="abc")
    for fold in make_folds(dataset):
        for part, share in zip(parts_of(fold), (0.64, 0.16, 0.2), strict=True):
            counts = Counter(dataset.tracks[index].genre for index in part)
            assert all(abs(count / 100 - share) <= 0.05 for count in counts.values())
    for test, validation in ((0.2, 0.2), (0.1, 0.1), (0.4, 0.3), (0, 0.25)):
        split = make_split(dataset, test=test, validation=validation)
        assert abs(len(split.test) / 300 - test) <= 0.05
        assert abs(len(split.validation) / 300 - validation) <= 0.05


@pytest.mark.parametrize("make", [make_folds, make_split, random_folds, random_split])
def test_seeds_differ_and_repeat(make: Callable[..., object]) -> None:
    dataset = even(artists=20)
    assert make(dataset, seed=1) == make(dataset, seed=1) != make(dataset, seed=2)


ONE_RARE = dataset_of(*[("a", f"n{n}") for n in range(9)], ("b", "x"))
# each genre has enough groups, but the large ones are the same few artists
ENTANGLED = dataset_of(
    *((genre, f"name {n}") for n in range(3) for genre in "abcd"),
    *(("a", "x"), ("b", "y"), ("c", "z"), ("d", "w")),
)


@pytest.mark.parametrize(
    ("make", "dataset", "options", "sentence"),
    [
        (make_folds, even(genres="a"), {}, "has a single genre"),
        (make_folds, even(4), {}, "in 4 groups.* need at least 5 .*ask for 4 folds at most"),
        (make_folds, even(1, 9), {}, "'a' has 9 tracks in 1 group "),
        (make_folds, ONE_RARE, {}, "'b' has 1 track in 1 group "),
        (make_folds, ENTANGLED, {"folds": 4}, r"in each genre|on two sides"),
        (make_folds, even(), {"folds": 1}, "at least 2 folds"),
        (make_split, even(2), {}, "in 2 groups.*a split needs at least 3"),
        (make_split, even(), {"test": 0.6}, "test share ranges from 0 to 0.5"),
        (make_split, even(), {"test": float("nan")}, "test share"),
        (make_split, even(), {"validation": 0}, "validation share is above 0"),
        (make_split, even(), {"test": 0.5, "validation": 0.5}, "less than 0.2 to train on"),
        (make_split, even(), {"seed": -1}, "seed is 0 or more"),
        (random_folds, even(3, 1), {}, "'a' has 3 tracks, and 5 folds need"),
        (random_folds, even(genres="a"), {}, "has a single genre"),
        (random_split, even(1, 2), {}, "'a' has 2 tracks, and a split needs at least 3"),
    ],
)
def test_impossible_divisions_are_refused(
    make: Callable[..., object], dataset: FolderDataset, options: dict[str, float], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        make(dataset, **options)
    assert "\n" not in str(caught.value)


def test_written_splits_are_read_back_for_the_same_data_elsewhere(tmp_path: Path) -> None:
    dataset = even(artists=8)
    odd = replace(dataset.tracks[0], path="a/latin1_\udce9\n.mp3", artist=None)
    dataset = replace(dataset, tracks=(odd, *dataset.tracks[1:]))
    folds = make_folds(dataset, folds=2, seed=3)
    file = tmp_path / "splits.json"
    write_splits(file, folds, dataset)
    assert read_splits(file, dataset) == folds
    moved = replace(dataset, root=Path("elsewhere"), tracks=dataset.tracks[::-1])
    for ours, theirs in zip(folds, read_splits(file, moved), strict=True):
        assert {dataset.tracks[i] for i in ours.test} == {moved.tracks[i] for i in theirs.test}
    stored = json.loads(file.read_text())
    assert (stored["version"], stored["seed"], stored["genres"]) == (1, 3, ["a", "b"])
    assert stored["group_sizes"] == [1, 2, *[3] * 15]
    assert stored["unknown_artists"] == 1


def test_the_protocol_and_leaks_are_in_the_file(tmp_path: Path) -> None:
    dataset = even(artists=8)
    file = tmp_path / "splits.json"
    for made, expected in (
        (make_folds(dataset, folds=2), False),
        (random_folds(dataset), True),
        (Folds((make_split(dataset, test=0),), 0, "official"), False),
        (Folds((Fold((0, 3), (1,), (40,)),), 0, "official"), True),
        (Folds((Fold((0, 3), (6,), (40,)),), 0, "official"), False),
    ):
        write_splits(file, made, dataset)
        stored = json.loads(file.read_text())
        assert (stored["protocol"], stored["leaks"]) == (made.protocol, expected)
        assert read_splits(file, dataset) == made
    assert stored["tracks"][2]["parts"] == [""]


@pytest.mark.parametrize("artist", [None, "Various Artists", "unknown"])
def test_leaks_are_unknown_where_artists_are(artist: str | None) -> None:
    dataset = even(artists=8)
    tracks = (replace(dataset.tracks[0], artist=artist), *dataset.tracks[1:])
    dataset = replace(dataset, tracks=tracks)
    assert leaks(make_folds(dataset, folds=2), dataset) == "unknown"
    assert leaks(random_folds(dataset), dataset) is True
    assert leaks(Folds((Fold((0, 3), (1, 4), ()),), 0, "official"), dataset) is True
    card = data_card(Folds((make_split(dataset),)), dataset)
    assert (card["artists"], card["unknown_artists"], card["leaks"]) == (16, 1, "unknown")


@pytest.mark.parametrize("field", ["sound_group", "artist"])
@few_draws
def test_grouped_splits_that_leak_by_what_is_known_now_are_refused(
    field: str, tmp_path: Path
) -> None:
    dataset = even(artists=8)
    file = tmp_path / "splits.json"
    fold = make_split(dataset)
    tracks = list(dataset.tracks)
    for index in (fold.train[0], fold.test[0]):
        value = f"{tracks[index].artist} & another" if field == "artist" else "the same"
        tracks[index] = replace(tracks[index], **{field: value})
    later = replace(dataset, tracks=tuple(tracks))
    write_splits(file, Folds((fold,)), dataset)
    with pytest.raises(DataError, match="an artist, album or copy is on two sides"):
        read_splits(file, later)
    write_splits(file, Folds((fold,), 0, "official"), dataset)
    assert read_splits(file, later).folds == (fold,)
    # what was known when the split was made need not be known when it is read
    write_splits(file, Folds((make_split(later),)), later)
    assert read_splits(file, dataset).folds == (make_split(later),)


def test_splits_of_other_data_are_refused(tmp_path: Path) -> None:
    dataset = even(artists=8)
    file = tmp_path / "splits.json"
    write_splits(file, make_folds(dataset, folds=2), dataset)
    first, *rest = dataset.tracks
    for tracks, sentence in (
        (rest, "1 track gone, 0 new"),
        ([replace(first, path="a/x"), *rest], "1 track gone, 1 new"),
        ([replace(first, content_hash="x"), *rest], "0 tracks gone, 0 new"),
    ):
        with pytest.raises(DataError, match=sentence):
            read_splits(file, replace(dataset, tracks=tuple(tracks)))


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "[" * 100_000, '{"format": "x"}', "\x00\xff",
     '{"format": "other", "version": 1}', '{"format": "deepmusic splits", "version": 2}',
     '{"format": "deepmusic splits", "version": 1, "folds": 1, "seed": 0, "fingerprint": "",'
     ' "protocol": "grouped", "tracks": [{"path": "a", "parts": ["dev"]}]}'],
)  # fmt: skip
def test_damaged_and_foreign_splits_are_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "splits.json"
    file.write_text(content)
    with pytest.raises(DataError, match=r"damaged|of another program or version"):
        read_splits(file, even())
    with pytest.raises(DataError, match="cannot be read"):
        read_splits(tmp_path / "gone.json", even())


def test_emotify_folds_are_balanced(shared_data: Path) -> None:
    dataset = scan_folder(shared_data / "emotify")
    for fold in make_folds(dataset):
        check(fold, dataset)
        counts = Counter(dataset.tracks[index].genre for index in fold.test)
        assert all(12 <= count <= 20 for count in counts.values())
    check(make_split(dataset), dataset)
