"""The public data sets that can be downloaded: addresses, checksums, sizes, licences, citations.

The records are in ``registry.toml``; ``docs/recipes/dataset.md`` shows how to add one.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Literal


@dataclass(frozen=True)
class Reference:
    """What to cite, and where to read on.

    Args:
        citation: one line.
        homepage: address.
        bibtex: the entry for BibTeX.
    """

    citation: str
    homepage: str
    bibtex: str


@dataclass(frozen=True)
class DatasetInfo:
    """A public data set that comes as one file.

    Args:
        name: what commands call it.
        title: one line.
        licence: as far as known.
        reference: what to cite.
        urls: addresses of the file, the preferred first.
        path: of the file, relative to the data folder.
        size: bytes.
        checksum: ``"ALGORITHM:HEX"`` with md5, sha1 or sha256.
        layout: what becomes of the file. ``"file"``: kept as it is. ``"archive"``: unpacked.
            ``"gzip"``: compressed. ``"midi"``: MIDI files are taken out of a repository's archive
            and packed again; since hosts make such archives on demand, ``size`` and ``checksum``
            are those of the contents for the last two.
        size_is_exact: False for a rounded size.
        folder: of an archive, what its folder of the same name becomes, relative to the data
            folder; of packed MIDI files, their folder in the packed file.
        unpacked_size: bytes that an archive unpacks to, estimated.
        tracks: number of audio tracks.
        member_pattern: of the paths of MIDI files in the repository, with a group ``stem``.
        index: file of this package to copy beside packed MIDI files as ``index.csv``; only those
            whose stem is in its column ``id`` are packed.
        note: what else to know before downloading.
    """

    name: str
    title: str
    licence: str
    reference: Reference
    urls: tuple[str, ...]
    path: str
    size: int
    checksum: str
    layout: Literal["file", "archive", "gzip", "midi"] = "file"
    size_is_exact: bool = True
    folder: str = ""
    unpacked_size: int = 0
    tracks: int | None = None
    member_pattern: str = ""
    index: str = ""
    note: str = ""

    @property
    def exact_size(self) -> int | None:
        """Bytes of the file; None if only a rounded size is known."""
        return self.size if self.size_is_exact else None

    @property
    def archive_folder(self) -> str:
        """The folder inside the archive that is unpacked."""
        return PurePosixPath(self.folder).name


def parse_registry(text: str) -> dict[str, DatasetInfo]:
    """The records of a registry in TOML, by name."""
    content = tomllib.loads(text)
    references = {name: Reference(**table) for name, table in content["reference"].items()}
    return {
        table["name"]: DatasetInfo(
            **table | {"reference": references[table["reference"]], "urls": tuple(table["urls"])}
        )
        for table in content["dataset"]
    }


REGISTRY = parse_registry(files(__package__).joinpath("registry.toml").read_text(encoding="utf-8"))
"""The data sets that ``fetch_dataset`` can download, by name."""
