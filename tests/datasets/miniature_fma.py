"""A small FMA with the true layout: tables, subset folders with mp3s, and the archives.

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
import pickle
import random
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REAL_GENRES = Path(__file__).with_name("fma_genres.csv")

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


def names(text: str) -> list[str]:
    return text.split(",")


RAW_TRACKS = names(
    "track_id,album_id,album_title,album_url,artist_id,artist_name,artist_url,artist_website,"
    "license_image_file,license_image_file_large,license_parent_id,license_title,license_url,tags,"
    "track_bit_rate,track_comments,track_composer,track_copyright_c,track_copyright_p,"
    "track_date_created,track_date_recorded,track_disc_number,track_duration,track_explicit,"
    "track_explicit_notes,track_favorites,track_file,track_genres,track_image_file,"
    "track_information,track_instrumental,track_interest,track_language_code,track_listens,"
    "track_lyricist,track_number,track_publisher,track_title,track_url"
)
RAW_ALBUMS = names(
    "album_id,album_comments,album_date_created,album_date_released,album_engineer,album_favorites,"
    "album_handle,album_image_file,album_images,album_information,album_listens,album_producer,"
    "album_title,album_tracks,album_type,album_url,artist_name,artist_url,tags"
)
RAW_ARTISTS = names(
    "artist_id,artist_active_year_begin,artist_active_year_end,artist_associated_labels,artist_bio,"
    "artist_comments,artist_contact,artist_date_created,artist_donation_url,artist_favorites,"
    "artist_flattr_name,artist_handle,artist_image_file,artist_images,artist_latitude,"
    "artist_location,artist_longitude,artist_members,artist_name,artist_paypal_name,"
    "artist_related_projects,artist_url,artist_website,artist_wikipedia_page,tags"
)

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
        return track_path(self.id)


@dataclass(frozen=True)
class Miniature:
    """What was made, and where."""

    root: Path
    metadata: Path  # root/fma_metadata
    audio: Path  # root/fma_small, or as the subset is called
    subset: str
    rows: tuple[Row, ...]  # all of tracks.csv, ascending ids
    genres: dict[int, tuple[int, int, str, int]]  # id: #tracks, parent, title, top_level
    checksums: dict[str, str] = field(default_factory=dict)  # path: SHA-1 of each mp3
    metadata_zip: Path | None = None
    audio_zip: Path | None = None

    @property
    def audio_rows(self) -> tuple[Row, ...]:
        """The tracks whose mp3s are in ``audio``, broken ones included."""
        return tuple(row for row in self.rows if row.path in self.checksums)


def track_path(track: int) -> str:
    name = f"{track:06d}"
    return f"{name[:3]}/{name}.mp3"


def make_miniature(
    folder: Path,
    tracks: int = 24,
    *,
    subset: str = "small",
    bad_clips: Sequence[int] = (),
    seconds: float = 1.0,
    audio: bool = True,
    zips: bool = False,
    seed: int = 0,
) -> Miniature:
    """Write a miniature FMA into ``folder``.

    Args:
        folder: made if need be; gets ``fma_metadata`` and ``fma_SUBSET``.
        tracks: how many the small subset has, over its eight genres and three splits in turn: of
            24, each genre has one in each split; each artist has two tracks of one split. There
            are 8 more in medium (other roots) and 8 more in large (no top genre, no genre).
        subset: which folder of mp3s is made: ``small``, ``medium`` or ``large`` (or ``full``).
        bad_clips: ids added to small as they are published: 133297 is no sound at all, others
            are mp3s of 0.2 s.
        seconds: length of each mp3.
        audio: whether mp3s are made; without, ``fma_SUBSET`` is not made.
        zips: whether ``fma_metadata.zip`` and ``fma_SUBSET.zip`` are made of the folders.
        seed: of all that is random.
    """
    folder.mkdir(parents=True, exist_ok=True)
    genres = read_tree()
    rows = make_rows(tracks, genres, bad_clips)
    metadata = folder / "fma_metadata"
    write_metadata(metadata, rows, genres, seed=seed)
    sounds = folder / f"fma_{subset}"
    sums: dict[str, str] = {}
    if audio:
        order = ("small", "medium", "large", "full")
        wanted = [row for row in rows if order.index(row.subset) <= order.index(subset)]
        sums = write_audio(sounds, wanted, seconds=seconds, short=bad_clips, seed=seed)
    packed = pack(metadata) if zips else None
    packed_audio = pack(sounds) if zips and audio else None
    return Miniature(
        folder, metadata, sounds, subset, tuple(rows), genres, sums, packed, packed_audio
    )


def read_tree() -> dict[int, tuple[int, int, str, int]]:
    """The genres by id: number of tracks, parent, title, top level."""
    with open(REAL_GENRES, encoding="utf-8", newline="") as file:
        return {
            int(r["genre_id"]): (
                int(r["#tracks"]), int(r["parent"]), r["title"], int(r["top_level"]),
            )
            for r in csv.DictReader(file)
        }  # fmt: skip


def make_rows(
    tracks: int, genres: Mapping[int, tuple[int, int, str, int]], bad_clips: Sequence[int] = ()
) -> list[Row]:
    """The rows of a miniature: small, then medium, then large, sorted by id."""
    used = {*bad_clips}
    ids = (
        track
        for track in itertools.chain((2, 5, 10, 140), (1003 + 1013 * n for n in range(150)),
                                     itertools.count(155321))
        if track not in used
    )  # fmt: skip
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
        split = SPLITS[number // 8 % 3]
        leaf = deepest[root] if number % 2 else root
        add("small", split, [leaf], next(ids), 1 + number // 2 % 12)
    for place, track in enumerate(bad_clips):
        add("small", "training", [SMALL_ROOTS[place % 8]], track, 90 + place)
    for number, root in enumerate(OTHER_ROOTS):
        add("medium", SPLITS[number % 3], [deepest[root]], next(ids), 200 + number)
    for number in range(8):
        two_roots = [[12, 15], [12], []][number % 3]
        split = "training" if not two_roots else SPLITS[number // 2 % 3]
        add("large", split, two_roots, next(ids), 300 + number)
    return sorted(rows, key=lambda row: row.id)


# Names that are hard: one like a compilation's, a collaboration, no Latin, two of one name.
ARTISTS = {
    1: "AWOL", 2: "Various Artists", 3: "Simon & Garfunkel", 4: "Мумий Тролль",
    5: 'The "Quoted", Band', 6: "Tim", 200: "Tim", 7: "Unknown",
}  # fmt: skip
TITLES = {2: "Food", 5: 'A "quoted" title, with commas', 10: "1979", 140: "線\n2,3,4"}


def chain(genre: int, genres: Mapping[int, tuple[int, int, str, int]]) -> list[int]:
    """A genre, its parent and so on to the root."""
    links = [genre]
    while genres[links[-1]][1]:
        links.append(genres[links[-1]][1])
    return links


def leaf_of(root: int, genres: Mapping[int, tuple[int, int, str, int]]) -> int:
    """A deepest genre under a root that has tracks."""
    below = [genre for genre in genres if chain(genre, genres)[-1] == root and genres[genre][0]]
    return max(below, key=lambda genre: (len(chain(genre, genres)), -genre))


def track_fields(row: Row, *, bio: str = BIO) -> list[str]:
    """The 52 columns of a track as they stand in tracks.csv."""
    number = row.id
    sparse = number % 3 == 0 or row.subset == "small"  # text that most rows lack
    known = number % 5 != 0  # metadata of album and artist were found
    values = {
        "album": [
            "0" if known else "-1", "2008-11-26 01:44:45" if known else "",
            "2009-01-05 00:00:00" if known and number % 2 else "", "Eng, Ineer" if sparse else "",
            "4" if known else "-1", str(row.album_id), bio[:90] if number % 2 else "",
            "6073" if known else "-1", "Pro Ducer" if sparse else "",
            "['vinyl', 'd\\'oh']" if number % 4 == 2 else "[]", row.album,
            "7" if known else "-1", ("Album", "Live Performance", "")[number % 3],
        ],
        "artist": [
            "2006-01-01 00:00:00" if number % 2 == 0 else "",
            "2012-01-01 00:00:00" if number % 4 == 0 else "",
            "Label; other" if sparse else "", bio if known else "", "0" if known else "-1",
            "2008-11-26 01:42:32" if known else "", "9" if known else "-1", str(row.artist_id),
            "40.0583238" if known else "", "New Jersey" if known else "",
            "-74.4056612" if known else "", "Sajje Morocco,Brownbum" if sparse else "",
            row.artist, "Projects\nof two lines" if sparse else "",
            f"['{row.artist_id}', \"d'angelo\", 'mit umläut']" if known else "[]",
            "http://www.example.org/" if known else "",
            "http://en.wikipedia.org/wiki/X" if sparse else "",
        ],
        "set": [row.split, row.subset],
        "track": [
            "256000" if known else "-1", "0", "Com Poser" if sparse else "",
            "2008-11-26 01:48:12", "2008-11-26 00:00:00" if number % 2 == 0 else "",
            str(60 + number % 541), "2", row.genre_top, repr(list(row.genres)),
            repr(list(row.genres_all)), "<p>x</p>" if sparse else "", str(number % 9999),
            "en" if number % 2 == 0 else "",
            ("Attribution-NonCommercial-ShareAlike 3.0 International", "Attribution", "")
            [number % 7 % 3], "1293", "Lyric" if sparse else "", "3",
            "Publisher" if sparse else "", "['tag']" if number % 4 == 1 else "[]", row.title,
        ],
    }  # fmt: skip
    return [value for group in COLUMNS for value in values[group]]


def write_tracks(path: Path, rows: Sequence[Row], *, bio: str = BIO) -> None:
    """``tracks.csv``: two lines of header, one that names the index, and the tracks."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        write_header(writer, TRACK_COLUMNS, ["", ""])
        writer.writerows([row.id, *track_fields(row, bio=bio)] for row in rows)


def write_header(writer, columns: Sequence[Sequence[str]], names: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    for level, name in enumerate(names):
        writer.writerow([name, *(column[level] for column in columns)])
    writer.writerow(["track_id", *[""] * len(columns)])


def write_metadata(
    folder: Path,
    rows: Sequence[Row],
    genres: Mapping[int, tuple[int, int, str, int]],
    *,
    seed: int = 0,
) -> None:
    """All of ``fma_metadata``."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    write_tracks(folder / "tracks.csv", rows)
    write_genres(folder / "genres.csv", genres)
    ids = [row.id for row in rows]
    write_numbers(folder / "features.csv", ids, FEATURE_COLUMNS, draw)
    columns = [("echonest", group, name) for group, names in ECHONEST.items() for name in names]
    for name, some in (("echonest.csv", ids[1::3]), ("raw_echonest.csv", [*ids[::2], 155320])):
        with open(folder / name, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            write_header(writer, columns, ["", "", ""])
            writer.writerows([track, *echonest_fields(track, columns, draw)] for track in some)
    raw = {row.id: row for row in rows}
    tracks = [raw_track(row, genres) for row in raw.values()]
    write_flat(folder / "raw_tracks.csv", RAW_TRACKS, [*tracks, {"track_id": 155319}])
    write_flat(folder / "raw_albums.csv", RAW_ALBUMS, [
        {"album_id": row.album_id, "album_title": row.album, "album_information": BIO,
         "album_images": "[{'image_id': '1', 'image_file': 'http://x/y.jpg'}]", "tags": "[]"}
        for row in {row.album_id: row for row in rows}.values()
    ])  # fmt: skip
    write_flat(folder / "raw_artists.csv", RAW_ARTISTS, [
        {"artist_id": row.artist_id, "artist_name": row.artist, "artist_bio": BIO,
         "artist_latitude": "40.0583238", "tags": "['x']"}
        for row in {row.artist_id: row for row in rows}.values()
    ])  # fmt: skip
    write_flat(
        folder / "raw_genres.csv",
        ["genre_id", "genre_color", "genre_handle", "genre_parent_id", "genre_title"],
        [
            {"genre_id": genre, "genre_parent_id": f"{parent}.0" if parent else "",
             "genre_title": title, "genre_handle": title.replace(" ", "_"),
             "genre_color": "#990000"}
            for genre, (_, parent, title, _) in [*genres.items(), (806, (0, 21, "hiphop", 21))]
        ],
    )  # fmt: skip
    gone = {"tracks": [1, 3], "albums": [], "artists": [], "audio": [4], "clips": []}
    (folder / "not_found.pickle").write_bytes(pickle.dumps(gone))
    (folder / "README.txt").write_text("FMA: a dataset for music analysis\n")
    write_checksums(folder)


def write_genres(path: Path, genres: Mapping[int, tuple[int, int, str, int]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["genre_id", "#tracks", "parent", "title", "top_level"])
        writer.writerows([genre, *values] for genre, values in genres.items())


def write_numbers(
    path: Path, ids: Sequence[int], columns: Sequence[Sequence[str]], draw: random.Random
) -> None:
    """``features.csv``."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        write_header(writer, columns, ["feature", "statistics", "number"])
        for track in ids:
            writer.writerow([track, *(f"{draw.gauss(0, 100):.10e}" for _ in columns)])


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


def raw_track(row: Row, genres: Mapping[int, tuple[int, int, str, int]]) -> dict[str, int | str]:
    listed = [
        {"genre_id": str(genre), "genre_title": genres[genre][2], "genre_url": "http://x/"}
        for genre in row.genres
    ]
    return {
        "track_id": row.id, "album_id": f"{row.album_id}.0", "album_title": row.album,
        "artist_id": row.artist_id, "artist_name": row.artist, "tags": "[]",
        "license_title": "Attribution", "track_duration": "02:48", "track_explicit": "Radio-Safe",
        "track_date_created": "11/26/2008 01:48:12 AM", "track_file": f"music/{row.id}.mp3",
        "track_genres": repr(listed) if listed else "", "track_title": row.title,
        "track_information": "<p>a\nb</p>", "track_instrumental": 0, "track_listens": 1293,
    }  # fmt: skip


def write_flat(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_audio(
    folder: Path,
    rows: Sequence[Row],
    *,
    seconds: float = 1.0,
    short: Sequence[int] = (),
    seed: int = 0,
) -> dict[str, str]:
    """The mp3s of some tracks with ``README.txt`` and ``checksums``; gives the SHA-1 of each."""
    for row in rows:
        path = folder / row.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if row.id == 133297:
            path.write_bytes(random.Random(row.id).randbytes(1752).replace(b"\xff", b"\xfe"))
        else:
            length = 0.2 if row.id in short else seconds
            path.write_bytes(mp3(row.id + 1_000_003 * seed, length))
    (folder / "README.txt").write_text("FMA: a dataset for music analysis\n")
    return write_checksums(folder)


def mp3(seed: int, seconds: float, *, sample_rate: int = 44100) -> bytes:
    """A tone in some noise, another for each seed."""
    import numpy as np
    import soundfile

    draw = np.random.default_rng(seed)
    times = np.arange(max(1, round(seconds * sample_rate))) / sample_rate
    tone = 0.3 * np.sin(2 * np.pi * draw.uniform(100, 2000) * times + draw.uniform(0, 6))
    sound = tone + 0.05 * draw.standard_normal(len(times))
    file = io.BytesIO()
    soundfile.write(
        file, sound.astype(np.float32), sample_rate, format="MP3", subtype="MPEG_LAYER_III"
    )
    return file.getvalue()


def write_checksums(folder: Path) -> dict[str, str]:
    """``checksums`` over all files but itself and the README, as published; gives what it says."""
    paths = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("checksums", "README.txt")
    )
    sums = {path: hashlib.sha1((folder / path).read_bytes()).hexdigest() for path in paths}
    text = "".join(f"{digest}  {path}\n" for path, digest in sums.items())
    (folder / "checksums").write_text(text, encoding="utf-8")
    return sums


def pack(folder: Path, target: Path | None = None) -> Path:
    """An archive of a folder as published: bzip2, README and checksums first, fixed times."""
    target = target or folder.with_name(f"{folder.name}.zip")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() or path.is_dir()]
    first = [folder / "README.txt", folder / "checksums"]
    ordered = [*(path for path in first if path.exists()), *(p for p in files if p not in first)]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_BZIP2) as archive:
        for path in ordered:
            is_folder = path.is_dir()
            name = f"{folder.name}/{path.relative_to(folder).as_posix()}" + "/" * is_folder
            info = zipfile.ZipInfo(name, (2017, 4, 1, 0, 0, 0))
            info.create_system = 3
            info.compress_type = zipfile.ZIP_STORED if is_folder else zipfile.ZIP_BZIP2
            mode = (stat.S_IFDIR | 0o555) if is_folder else (stat.S_IFREG | 0o444)
            info.external_attr = mode << 16 | (0x10 if is_folder else 0)
            archive.writestr(info, b"" if is_folder else path.read_bytes())
    return target


# The counts of the published sets: training, validation, test.
SMALL_COUNTS = {ROOTS[root]: (800, 100, 100) for root in SMALL_ROOTS}
MEDIUM_COUNTS = {
    "Rock": (5681, 711, 711), "Electronic": (5050, 632, 632), "Experimental": (1801, 225, 225),
    "Hip-Hop": (1761, 220, 220), "Folk": (1215, 152, 152), "Instrumental": (1045, 131, 174),
    "Pop": (945, 122, 119), "International": (814, 102, 102), "Classical": (495, 62, 62),
    "Old-Time / Historic": (408, 51, 51), "Jazz": (306, 39, 39), "Country": (142, 18, 18),
    "Soul-RnB": (94, 18, 42), "Spoken": (94, 12, 12), "Blues": (58, 8, 8),
    "Easy Listening": (13, 2, 6),
}  # fmt: skip
LARGE_COUNTS = (84353, 10958, 11263)
WITH_TOP_GENRE, WITH_GENRES, LAST_ID = 49598, 104343, 155320


def real_size_rows(genres: Mapping[int, tuple[int, int, str, int]]) -> Iterator[Row]:
    """106,574 tracks, as many of each subset, split and genre as published, in order of ids."""
    kinds: list[tuple[str, str, str]] = []  # subset, split, what genres
    for genre, counts in MEDIUM_COUNTS.items():
        small = SMALL_COUNTS.get(genre, (0, 0, 0))
        for split, all_of_it, of_small in zip(SPLITS, counts, small, strict=True):
            kinds += [("small", split, genre)] * of_small
            kinds += [("medium", split, genre)] * (all_of_it - of_small)
    missing = sum(LARGE_COUNTS) - WITH_GENRES
    topped = WITH_TOP_GENRE - len(kinds)
    for place, split in enumerate(SPLITS):
        rest = LARGE_COUNTS[place] - sum(counts[place] for counts in MEDIUM_COUNTS.values())
        if split == "training":
            kinds += [("large", split, "none")] * missing
            rest -= missing
        of_top = topped if split == "training" else 0
        kinds += [("large", split, "Rock")] * of_top + [("large", split, "two")] * (rest - of_top)
    random.Random(1).shuffle(kinds)
    by_title = {title: root for root, title in ROOTS.items()}
    leaves = {root: leaf_of(root, genres) for root in ROOTS}
    lists = {"none": [], "two": [leaves[12], 15], **{t: [leaves[r]] for t, r in by_title.items()}}
    alls = {
        kind: tuple(sorted({link for genre in chosen for link in chain(genre, genres)}))
        for kind, chosen in lists.items()
    }
    ids = [2, *sorted(random.Random(2).sample(range(3, LAST_ID), len(kinds) - 2)), LAST_ID]
    for number, (track, (subset, split, kind)) in enumerate(zip(ids, kinds, strict=True)):
        artist = 3 * (number // 19) + SPLITS.index(split)  # no artist in two splits
        yield Row(
            track, subset, split, kind if kind in by_title else "", tuple(lists[kind]), alls[kind],
            artist, f"Artist {artist}", artist + 7, f"Album {artist}", f"Title {track}",
        )  # fmt: skip


def write_real_size(folder: Path, *, bio_bytes: int = 0) -> Path:
    """``tracks.csv`` and ``genres.csv`` of the real size; gives the path of the first.

    Without biographies it has less than 50 MB, the published one 260,414,445 B.
    """
    folder.mkdir(parents=True, exist_ok=True)
    genres = read_tree()
    write_genres(folder / "genres.csv", genres)
    path = folder / "tracks.csv"
    draw = random.Random(3)
    words = ["".join(draw.choices("aeioustrnlmd", k=draw.randrange(2, 9))) for _ in range(5000)]
    bios: dict[int, str] = {}  # an artist's is the same on all tracks
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        write_header(writer, TRACK_COLUMNS, ["", ""])
        for row in real_size_rows(genres):
            if row.artist_id not in bios:
                text = " ".join(draw.choices(words, k=bio_bytes * 2 // 13))
                bios[row.artist_id] = f'<p>{row.artist}, "who"</p>\n<p>{text}</p>'
            writer.writerow([row.id, *track_fields(row, bio=bios[row.artist_id])])
    return path
