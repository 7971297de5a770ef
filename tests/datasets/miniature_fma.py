"""A miniature FMA with the layout of the real one: tables, mp3s of a subset, and the archives.

    mini = make_miniature(tmp_path)             # tmp_path/fma_metadata and tmp_path/fma_small
    mini = make_miniature(tmp_path, zips=True)  # and tmp_path/fma_metadata.zip, fma_small.zip

Headers, index-name rows, quoted newlines, HTML, lists as Python literals, -1 and empty fields are
as published. The genre tree is FMA's own (fma_genres.csv, CC BY 4.0, Defferrard et al. 2017).
Nothing here imports what it is used to test.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import random
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

Genres = Mapping[int, tuple[int, int, str, int]]  # id: number of tracks, parent, title, top level

# the 16 roots: id, title
ROOTS = {
    2: "International", 3: "Blues", 4: "Jazz", 5: "Classical", 8: "Old-Time / Historic",
    9: "Country", 10: "Pop", 12: "Rock", 13: "Easy Listening", 14: "Soul-RnB", 15: "Electronic",
    17: "Folk", 20: "Spoken", 21: "Hip-Hop", 38: "Experimental", 1235: "Instrumental",
}  # fmt: skip
SMALL_ROOTS = (21, 10, 17, 38, 12, 2, 15, 1235)
OTHER_ROOTS = (3, 4, 5, 8, 9, 13, 14, 20)
SPLITS = ("training", "validation", "test")

COLUMNS: Mapping[str, Sequence[str]] = {
    "album": (
        "comments", "date_created", "date_released", "engineer", "favorites", "id", "information",
        "listens", "producer", "tags", "title", "tracks", "type",
    ),
    "artist": (
        "active_year_begin", "active_year_end", "associated_labels", "bio", "comments",
        "date_created", "favorites", "id", "latitude", "location", "longitude", "members", "name",
        "related_projects", "tags", "website", "wikipedia_page",
    ),
    "set": ("split", "subset"),
    "track": (
        "bit_rate", "comments", "composer", "date_created", "date_recorded", "duration",
        "favorites", "genre_top", "genres", "genres_all", "information", "interest",
        "language_code", "license", "listens", "lyricist", "number", "publisher", "tags", "title",
    ),
}  # fmt: skip
TRACK_COLUMNS = tuple((group, name) for group, names in COLUMNS.items() for name in names)

STATISTICS = ("kurtosis", "max", "mean", "median", "min", "skew", "std")
FEATURE_SIZES = {
    "chroma_cens": 12, "chroma_cqt": 12, "chroma_stft": 12, "mfcc": 20, "rmse": 1,
    "spectral_bandwidth": 1, "spectral_centroid": 1, "spectral_contrast": 7, "spectral_rolloff": 1,
    "tonnetz": 6, "zcr": 1,
}  # fmt: skip
FEATURE_COLUMNS = tuple(
    (feature, statistic, f"{number:02d}")
    for feature, size in FEATURE_SIZES.items()
    for statistic in STATISTICS
    for number in range(1, size + 1)
)
ECHONEST: Mapping[str, Sequence[str]] = {
    "audio_features": (
        "acousticness", "danceability", "energy", "instrumentalness", "liveness", "speechiness",
        "tempo", "valence",
    ),
    "metadata": (
        "album_date", "album_name", "artist_latitude", "artist_location", "artist_longitude",
        "artist_name", "release",
    ),
    "ranks": (
        "artist_discovery_rank", "artist_familiarity_rank", "artist_hotttnesss_rank",
        "song_currency_rank", "song_hotttnesss_rank",
    ),
    "social_features": (
        "artist_discovery", "artist_familiarity", "artist_hotttnesss", "song_currency",
        "song_hotttnesss",
    ),
    "temporal_features": tuple(f"{number:03d}" for number in range(224)),
}  # fmt: skip


BIO = (
    '<p>A Way Of Life, A Collective of "Hip-Hop" from New Brunswick, NJ</p>\n'
    "<p>Second line,\twith a comma; a \x22quote\x22 and 12,13,14</p>\r\n\n3,4,5\n"
)


@dataclass(frozen=True)
class Row:
    """What matters of a track; the rest of its 52 columns is filled in by ``track_fields``."""

    id: int
    subset: str
    split: str
    genre_top: str  # empty where there is none
    genres: tuple[int, ...]
    genres_all: tuple[int, ...]
    artist_id: int
    artist: str
    album_id: int
    album: str
    title: str

    @property
    def path(self) -> str:
        """Below the folder of a subset."""
        return f"{self.id:06d}"[:3] + f"/{self.id:06d}.mp3"


@dataclass(frozen=True)
class Miniature:
    """What was made, and where."""

    root: Path
    metadata: Path  # root/fma_metadata
    audio: Path  # root/fma_small, or as the subset is called
    rows: tuple[Row, ...]  # all of tracks.csv, ascending ids
    genres: Genres
    checksums: dict[str, str] = field(default_factory=dict)  # path: SHA-1 of each mp3
    metadata_zip: Path | None = None

    @property
    def audio_rows(self) -> tuple[Row, ...]:
        """The tracks whose mp3s are in ``audio``, broken ones included."""
        return tuple(row for row in self.rows if row.path in self.checksums)


def make_miniature(
    folder: Path,
    tracks: int = 24,
    *,
    bad_clips: Sequence[int] = (),
    seconds: float = 1.0,
    audio: bool = True,
    zips: bool = False,
) -> Miniature:
    """Write a miniature FMA into ``folder``.

    Args:
        folder: made if need be; gets ``fma_metadata`` and ``fma_small``.
        tracks: how many the small subset has, over its eight genres and three splits in turn: of
            24, each genre has one in each split; each artist has two tracks of one split. There
            are 8 more in medium (other roots) and 8 more in large (no top genre, no genre).
        bad_clips: ids added to small as they are published: 133297 is not audio at all, others
            are mp3s of 0.2 s.
        seconds: length of each mp3.
        audio: whether the mp3s are made.
        zips: whether the folders are packed, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    genres = read_tree()
    rows = make_rows(tracks, genres, bad_clips)
    metadata, small = folder / "fma_metadata", folder / "fma_small"
    write_metadata(metadata, rows, genres)
    checksums: dict[str, str] = {}
    if audio:
        for row in rows:
            if row.subset == "small":
                path = small / row.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(mp3(row.id, 0.2 if row.id in bad_clips else seconds))
        checksums = write_checksums(small)
    if zips and audio:
        pack(small)
    packed = pack(metadata) if zips else None
    return Miniature(folder, metadata, small, tuple(rows), genres, checksums, packed)


def read_tree() -> dict[int, tuple[int, int, str, int]]:
    """FMA's genres by id."""
    with open(Path(__file__).with_name("fma_genres.csv"), encoding="utf-8", newline="") as file:
        return {
            int(r["genre_id"]): (
                int(r["#tracks"]), int(r["parent"]), r["title"], int(r["top_level"]),
            )
            for r in csv.DictReader(file)
        }  # fmt: skip


def make_rows(tracks: int, genres: Genres, bad_clips: Sequence[int] = ()) -> list[Row]:
    """The rows of a miniature: small, then medium, then large, sorted by id."""
    ids = itertools.chain((2, 5, 10, 140), (1003 + 1013 * n for n in range(150)))
    rows = []

    def add(subset: str, split: str, leaves: Sequence[int], track: int, artist: int) -> None:
        chains = [chain(leaf, genres) for leaf in leaves]
        tops = {links[-1] for links in chains}
        top = genres[tops.pop()][2] if len(tops) == 1 else ""
        every = sorted({genre for links in chains for genre in links})
        name = ARTISTS.get(artist, f"Artist {artist}")
        rows.append(
            Row(track, subset, split, top, tuple(leaves), tuple(every), artist, name,
                100 + artist, f"Album, {artist}", TITLES.get(track, f"Track {track}")),
        )  # fmt: skip

    deepest = {root: leaf_of(root, genres) for root in ROOTS}
    for number in range(tracks):
        root = SMALL_ROOTS[number % 8]
        leaf = deepest[root] if number % 2 else root
        add("small", SPLITS[number // 8 % 3], [leaf], next(ids), 1 + number // 2 % 12)
    for number, track in enumerate(bad_clips):
        add("small", "training", [SMALL_ROOTS[number % 8]], track, 90 + number)
    for number, root in enumerate(OTHER_ROOTS):
        add("medium", SPLITS[number % 3], [deepest[root]], next(ids), 200 + number)
    for number in range(8):
        leaves = [[12, 15], [12], []][number % 3]
        split = SPLITS[number // 2 % 3] if leaves else "training"
        add("large", split, leaves, next(ids), 300 + number)
    return sorted(rows, key=lambda row: row.id)


# Names that are hard: a compilation's, a collaboration, not Latin, two of one name.
ARTISTS = {
    1: "AWOL", 2: "Various Artists", 3: "Simon & Garfunkel", 4: "Мумий Тролль",
    5: 'The "Quoted", Band', 6: "Tim", 200: "Tim", 7: "Unknown",
}  # fmt: skip
TITLES = {2: "Food", 5: 'A "quoted" title, with commas', 10: "1979", 140: "線\n2,3,4"}


def chain(genre: int, genres: Genres) -> list[int]:
    """A genre, its parent and so on to the root."""
    links = [genre]
    while genres[links[-1]][1]:
        links.append(genres[links[-1]][1])
    return links


def leaf_of(root: int, genres: Genres) -> int:
    """A deepest genre under a root that has tracks."""
    below = [genre for genre in genres if chain(genre, genres)[-1] == root and genres[genre][0]]
    return max(below, key=lambda genre: (len(chain(genre, genres)), -genre))


def track_fields(row: Row, *, bio: str = BIO) -> list[str]:
    """The 52 columns of a track as in tracks.csv."""
    n = row.id
    text = "Some, text\nof two lines" if n % 3 == 0 or row.subset == "small" else ""
    known = n % 5 != 0  # metadata of album and artist were found
    date = f"2008-11-26 01:48:{n % 60:02d}"
    values = {
        "album": {
            "date_created": date if known else "",
            "date_released": "2009-01-05 00:00:00" if known and n % 2 else "",
            "id": str(row.album_id), "information": bio[:90] if n % 2 else "",
            "tags": "['vinyl', 'd\\'oh']" if n % 4 == 2 else "[]", "title": row.album,
            "type": ("Album", "Live Performance", "")[n % 3],
        },
        "artist": {
            "active_year_begin": "2006-01-01 00:00:00" if n % 2 == 0 else "",
            "active_year_end": "2012-01-01 00:00:00" if n % 4 == 0 else "",
            "bio": bio if known else "", "date_created": "2008-11-26 01:48:12" if known else "",
            "id": str(row.artist_id), "latitude": "40.0583238" if known else "",
            "longitude": "-74.4056612" if known else "", "name": row.artist,
            "tags": f"['{row.artist_id}', \"d'angelo\", 'mit umläut']" if known else "[]",
        },
        "set": {"split": row.split, "subset": row.subset},
        "track": {
            "date_created": "2008-11-26 01:48:12", "date_recorded": date if n % 2 == 0 else "",
            "duration": str(60 + n % 541), "genre_top": row.genre_top,
            "genres": repr(list(row.genres)), "genres_all": repr(list(row.genres_all)),
            "license": ("Attribution-ShareAlike 3.0", "Attribution", "")[n % 7 % 3],
            "tags": "['tag']" if n % 4 == 1 else "[]", "title": row.title,
        },
    }  # fmt: skip
    numbers = {"bit_rate", "comments", "favorites", "interest", "listens", "number", "tracks"}
    count = str(n % 9999) if known else "-1"
    return [
        values[group].get(name, count if name in numbers else text) for group, name in TRACK_COLUMNS
    ]


def write_metadata(folder: Path, rows: Sequence[Row], genres: Genres) -> None:
    """All of ``fma_metadata``."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    write_tracks(folder / "tracks.csv", rows)
    write_genres(folder / "genres.csv", genres)
    ids = [row.id for row in rows]
    numbers = ([track, *(f"{draw.gauss(0, 100):.10e}" for _ in FEATURE_COLUMNS)] for track in ids)
    levels = ["feature", "statistics", "number"]
    write_csv(folder / "features.csv", header(FEATURE_COLUMNS, levels), numbers)
    columns = [("echonest", group, name) for group, names in ECHONEST.items() for name in names]
    for name, some in (("echonest.csv", ids[1::3]), ("raw_echonest.csv", [*ids[::2], 155320])):
        values = ([track, *echonest_fields(track, columns, draw)] for track in some)
        write_csv(folder / name, header(columns, ["", "", ""]), values)
    # of the columns of the raw tables only some
    albums = {row.album_id: [row.album_id, row.album, BIO] for row in rows}
    artists = {row.artist_id: [row.artist_id, row.artist, BIO] for row in rows}
    raw: dict[str, tuple[str, Iterable[Sequence[object]]]] = {
        "tracks": (
            "track_id,artist_id,track_genres,track_title",
            [[r.id, r.artist_id, repr(list(r.genres)) if r.genres else "", r.title] for r in rows],
        ),
        "albums": ("album_id,album_title,album_information", albums.values()),
        "artists": ("artist_id,artist_name,artist_information", artists.values()),
        "genres": (
            "genre_id,genre_parent_id,genre_title",
            [[n, f"{parent}.0" if parent else "", t] for n, (_, parent, t, _) in genres.items()],
        ),
    }
    for name, (columns, values) in raw.items():
        write_csv(folder / f"raw_{name}.csv", [columns.split(",")], values)
    write_checksums(folder)


def header(columns: Sequence[Sequence[str]], names: Sequence[str]) -> list[list[str]]:
    """Lines of column levels with their names, and one that names the index."""
    levels = [[name, *(column[n] for column in columns)] for n, name in enumerate(names)]
    return [*levels, ["track_id", *[""] * len(columns)]]


def write_csv(path: Path, head: Iterable[Sequence[str]], rows: Iterable[Sequence[object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(head)
        writer.writerows(rows)


def write_tracks(path: Path, rows: Iterable[Row], *, bio: str = BIO) -> None:
    write_csv(
        path, header(TRACK_COLUMNS, ["", ""]), ([r.id, *track_fields(r, bio=bio)] for r in rows)
    )


def write_genres(path: Path, genres: Genres) -> None:
    columns = [["genre_id", "#tracks", "parent", "title", "top_level"]]
    write_csv(path, columns, ([genre, *values] for genre, values in genres.items()))


def echonest_fields(
    track: int, columns: Sequence[tuple[str, str, str]], draw: random.Random
) -> Iterator[str]:
    words = {"album_name", "artist_location", "artist_name", "release"}
    for _, group, name in columns:
        if group == "metadata" and name in words:
            yield f'{name}, "{track}"' if track % 2 else "São Paulo"
        elif name == "album_date":
            yield "2008-05-03" if track % 2 == 0 else ""
        elif group == "ranks":
            yield f"{draw.randrange(1, 90000)}.0" if track % 2 == 0 else ""
        else:
            yield f"{draw.random():.10f}"


def mp3(seed: int, seconds: float, *, sample_rate: int = 44100) -> bytes:
    """A tone in some noise, another for each seed; of 133297 bytes that are not audio."""
    import numpy as np
    import soundfile

    if seed == 133297:
        return random.Random(seed).randbytes(1752).replace(b"\xff", b"\xfe")
    draw = np.random.default_rng(seed)
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = 0.3 * np.sin(2 * np.pi * draw.uniform(100, 2000) * times + draw.uniform(0, 6))
    sound = (tone + 0.05 * draw.standard_normal(len(times))).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, sound, sample_rate, format="MP3", subtype="MPEG_LAYER_III")
    return file.getvalue()


def write_checksums(folder: Path) -> dict[str, str]:
    """``checksums`` of all files but itself, as published; returns its content."""
    (folder / "checksums").unlink(missing_ok=True)
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    sums = {path: hashlib.sha1((folder / path).read_bytes()).hexdigest() for path in paths}
    text = "".join(f"{digest}  {path}\n" for path, digest in sums.items())
    (folder / "checksums").write_text(text, encoding="utf-8")
    return sums


def pack(folder: Path) -> Path:
    """An archive of a folder, with bzip2 as published."""
    target = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_BZIP2) as archive:
        for path in sorted(folder.rglob("*")):
            if ".deepmusic" not in path.parts:
                archive.write(path, path.relative_to(folder.parent))
    return target


def write_real_size(folder: Path, *, bio_bytes: int = 0) -> Path:
    """``tracks.csv`` of the real size, 106,574 rows; returns its path.

    Without biographies it has less than 50 MB, the published one 260,414,445 B.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tracks.csv"
    rows = make_rows(24, read_tree())
    words = "".join(random.Random(3).choices("aeioustrnlmd ", k=bio_bytes))

    def fields() -> Iterator[list[object]]:
        for track in range(106_574):
            row = replace(rows[track % len(rows)], id=track, artist_id=track // 19)
            yield [track, *track_fields(row, bio=f"<p>{row.artist_id}</p>\n{words}")]

    write_csv(path, header(TRACK_COLUMNS, ["", ""]), fields())
    return path
