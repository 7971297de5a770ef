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
    """What to cite, and where to read on."""

    citation: str  # one line
    homepage: str
    bibtex: str


@dataclass(frozen=True)
class DatasetInfo:
    """A public data set that comes as one file."""

    name: str  # what commands call it
    title: str  # one line
    licence: str  # as far as known
    reference: Reference
    urls: tuple[str, ...]  # of the file, the preferred first
    path: str  # of the file, relative to the data folder
    size: int  # bytes
    checksum: str  # "ALGORITHM:HEX" with md5, sha1 or sha256
    # What becomes of the file. "file": it is kept; "archive": it is unpacked; "gzip": it is
    # compressed; "midi": MIDI files are taken out of a repository's archive and packed again.
    # Hosts make such archives on demand: for the last two, size and checksum are of the contents.
    layout: Literal["file", "archive", "gzip", "midi"] = "file"
    size_is_exact: bool = True  # otherwise it is rounded
    # Of an archive, what its folder of the same name becomes, relative to the data folder; of
    # packed MIDI files, their folder in the packed file.
    folder: str = ""
    unpacked_size: int = 0  # bytes that an archive unpacks to, estimated
    tracks: int | None = None
    member_pattern: str = ""  # of the paths of MIDI files in the repository, with a group "stem"
    # A file of this package to copy beside packed MIDI files as index.csv; only those whose stem is
    # in its column id are packed.
    index: str = ""
    note: str = ""  # what else to know before downloading

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
