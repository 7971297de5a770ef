"""Public data sets of sound: where their archives come from, what is in them, and what they cost.

Sources: the repository ``mdeff/fma`` (release of 2017-05-09) for the addresses, SHA-1 and numbers
of FMA; mirdata and torchaudio for the MD5 of GTZAN. What is only reckoned is said to be.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from deepmusic.datasets.archives import is_begun, refuse_full_disk, unpack
from deepmusic.datasets.catalogue import Publication
from deepmusic.datasets.download import Progress, check_file, disk_errors, download, part_size
from deepmusic.datasets.web import DownloadError, local_path, shown


@dataclass(frozen=True)
class AudioArchive:
    """The archive of a public data set.

    Args:
        name: of the data set.
        file: path of the archive below the folder of data.
        folder: path below the folder of data of what it unpacks to.
        top: the folder in the archive that becomes this folder.
        urls: addresses of the archive, the preferred first.
        size: bytes of the archive.
        is_exact: whether that is known to the byte; else it is rounded.
        unpacked_size: bytes of what is in it, reckoned.
        tracks: how many pieces of music; 0 for tables.
        licence: as far as known.
        description: one line.
        publication: what to cite, and the homepage.
        sha1: of the archive, where known.
        sha256: the same.
        md5: the same.
        note: what else one should know before fetching it.
    """

    name: str
    file: str
    folder: str
    top: str
    urls: tuple[str, ...]
    size: int
    is_exact: bool
    unpacked_size: int
    tracks: int
    licence: str
    description: str
    publication: Publication
    sha1: str | None = None
    sha256: str | None = None
    md5: str | None = None
    note: str = ""

    @property
    def exact_size(self) -> int | None:
        """Bytes of the archive, where they are known."""
        return self.size if self.is_exact else None

    @property
    def disk(self) -> int:
        """Bytes that are free on the disk before it is fetched and unpacked, or should be."""
        return self.size + self.unpacked_size


def fetch_archive(
    entry: AudioArchive,
    root: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None = None,
    is_unpacked: bool = True,
    is_kept: bool = False,
    on_progress: Progress | None = None,
    on_unpacking: Progress | None = None,
) -> bool:
    """Fetch an archive, check it, and unpack it into the folder of data.

    What was cut off, at whatever point, goes on when it is called again; the folder gets its name
    when all of it is there. An archive on this machine is checked and unpacked where it is.

    Args:
        entry: which, such as ``AUDIO_ARCHIVES["fma-small"]``.
        root: the folder of data; made if need be.
        source: an address or a path to take the archive from instead of the known addresses; a
            folder that holds it, or the address of one, with a slash at its end.
        is_unpacked: whether the folder is wanted; else the archive.
        is_kept: whether the archive stays, too. One that was there before always stays.
        on_progress: takes the bytes of the archive that are there and how many it will be.
        on_unpacking: the same, as :func:`~deepmusic.datasets.archives.unpack` has it.

    Returns:
        Whether it was fetched; False where it was there.

    Raises:
        DownloadError: ``"disk"``: there is no room, which is said first; or it could not be
            fetched, is not what it should be, or something else has its name.
        ArchiveError: it holds what is not unpacked.
    """
    root = Path(root)
    file, folder = root / entry.file, root / entry.folder
    if is_unpacked and folder.is_dir():
        return False
    given = None if source is None else archive_source(entry, source)
    sources = entry.urls if given is None else (given,)
    was_there = file.exists()
    if is_unpacked and isinstance(given, Path) and not was_there:
        if not is_begun(folder):  # else what is there already takes no more room
            refuse_full_disk(root, entry.unpacked_size)
        check_file(
            given,
            size=entry.exact_size,
            sha1=entry.sha1,
            sha256=entry.sha256,
            md5=entry.md5,
            on_progress=on_progress,
        )
        unpack(given, folder, top=entry.top, on_progress=on_unpacking)
        return True
    if not was_there:
        missing = max(0, entry.size - part_size(file))
        refuse_full_disk(root, missing + (entry.unpacked_size if is_unpacked else 0))
    is_fetched = _download_first(entry, sources, file, on_progress)
    if not is_unpacked:
        return is_fetched
    unpack(file, folder, top=entry.top, on_progress=on_unpacking)
    if not (is_kept or was_there):
        with disk_errors(file):
            file.unlink()
    return True


def archive_source(entry: AudioArchive, source: str | os.PathLike[str]) -> str | Path:
    """The one archive that a source means: an address, or a path.

    Raises:
        DownloadError: ``"missing"``: a folder does not hold it.
    """
    path, name = local_path(source), Path(entry.file).name
    if path is None:
        address = os.fspath(source)
        return address + quote(name) if address.endswith("/") else address
    if not path.is_dir():
        return path
    for place in (path / entry.file, path / name):
        if place.is_file():
            return place
    raise DownloadError(
        f"{path} holds no archive of {entry.name!r}; looked for {name}.", code="missing"
    )


def _download_first(
    entry: AudioArchive,
    sources: tuple[str | Path, ...],
    file: Path,
    on_progress: Progress | None,
) -> bool:
    """Download from the first source that is there."""
    for number, source in enumerate(sources):
        try:
            return download(
                source,
                file,
                size=entry.exact_size,
                sha1=entry.sha1,
                sha256=entry.sha256,
                md5=entry.md5,
                on_progress=on_progress,
            )
        except DownloadError as error:
            # a site may be gone for good, with its name
            is_passed = error.code in ("missing", "unreachable") and not part_size(file)
            if not is_passed or number == len(sources) - 1:
                raise
    raise DownloadError(f"{shown(file)} has no known address: give a source.", code="missing")


_FMA = Publication(
    "Defferrard, Benzi, Vandergheynst, Bresson (2017): FMA: A Dataset for Music Analysis. ISMIR.",
    """\
@inproceedings{fma_dataset,
  title = {{FMA}: A Dataset for Music Analysis},
  author = {Defferrard, Micha{\\"e}l and Benzi, Kirell and Vandergheynst, Pierre and
            Bresson, Xavier},
  booktitle = {18th International Society for Music Information Retrieval Conference (ISMIR)},
  year = {2017},
  archiveprefix = {arXiv},
  eprint = {1612.01840},
  url = {https://arxiv.org/abs/1612.01840},
}""",
    "https://github.com/mdeff/fma",
)
_GTZAN = Publication(
    "Tzanetakis, Cook (2002): Musical genre classification of audio signals. IEEE Transactions on "
    "Speech and Audio Processing 10(5).",
    """\
@article{tzanetakis2002musical,
  title = {Musical genre classification of audio signals},
  author = {Tzanetakis, George and Cook, Perry},
  journal = {IEEE Transactions on Speech and Audio Processing},
  volume = {10},
  number = {5},
  pages = {293--302},
  year = {2002},
}""",
    "http://marsyas.info/downloads/datasets.html",
)

_FMA_LICENCE = "chosen by each artist, mostly Creative Commons non-commercial; see tracks.csv"
_GIB = 1 << 30


def _fma(
    stem: str,
    size: int,
    tracks: int,
    sha1: str,
    description: str,
    *,
    is_exact: bool = True,
    unpacked_size: int = 0,
    sha256: str | None = None,
    licence: str = _FMA_LICENCE,
    note: str = "",
) -> AudioArchive:
    name = f"fma_{stem}"
    return AudioArchive(
        f"fma-{stem}",
        f"{name}.zip",
        name,
        name,
        (f"https://os.unil.cloud.switch.ch/fma/{name}.zip",),
        size,
        is_exact,
        # packing takes next to nothing off an mp3; five in a hundred for that and for the disk
        unpacked_size or round(1.05 * size),
        tracks,
        licence,
        description,
        _FMA,
        sha1=sha1,
        sha256=sha256,
        note=note,
    )


_ARCHIVES = (
    _fma(
        "metadata",
        358_412_441,
        0,
        "f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
        "FMA: tables of 106,574 tracks, 163 genres and features",
        # tracks.csv has 260 MB; features.csv, by its form, about 970 MB
        unpacked_size=1_500_000_000,
        sha256="d9527a5297a65da31c5676484d5047c3e2b8a8060ce72a46e26158be736bf265",
        licence="CC BY 4.0",
    ),
    _fma(
        "small",
        7_679_594_875,
        8_000,
        "ade154f733639d52e35e32f5593efe5be76c6d70",
        "FMA: 8,000 clips of 30 s, 8 genres of 1,000",
    ),
    _fma(
        "medium",
        22 * _GIB,
        25_000,
        "c67b69ea232021025fca9231fc1c7c1a063ab50b",
        "FMA: 25,000 clips of 30 s, 16 unbalanced genres",
        is_exact=False,
    ),
    _fma(
        "large",
        100_306_112_191,
        106_574,
        "497109f4dd721066b5ce5e5f250ec604dc78939e",
        "FMA: 106,574 clips of 30 s, 161 unbalanced genres",
        note="single tracks: deepmusic data get fma --subset large",
    ),
    _fma(
        "full",
        879 * _GIB,
        106_574,
        "0f0ace23fbe9ba30ecb7e95f763e435ea802b8ab",
        "FMA: 106,574 whole tracks, 161 unbalanced genres",
        is_exact=False,
        note="single tracks: deepmusic data get fma --subset full",
    ),
    AudioArchive(
        "gtzan",
        "gtzan/genres.tar.gz",
        "gtzan/genres",
        "genres",
        (
            "https://huggingface.co/datasets/marsyas/gtzan/resolve/main/data/genres.tar.gz",
            "http://opihi.cs.uvic.ca/sound/genres.tar.gz",
        ),
        1_200_000_000,
        False,
        # 1,000 clips of 30.0 s at 22,050 Hz, two bytes a sample
        1_330_000_000,
        1_000,
        "none, and no permission of the copyright holders: do not pass the clips on",
        "GTZAN: 1,000 clips of 30 s, 10 genres of 100; faulty, and with repetitions",
        _GTZAN,
        md5="5b3d6dddb579ab49814ab86dba69e7c7",
        note="its own site has been gone since 2022; the first address is a mirror",
    ),
)

AUDIO_ARCHIVES: dict[str, AudioArchive] = {entry.name: entry for entry in _ARCHIVES}
"""Name to the archive of each data set of sound that :func:`fetch_archive` can fetch."""
