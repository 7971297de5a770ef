"""Tables of checksums, lines `CHECKSUM  PATH` as `sha1sum` writes them, such as FMA's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepmusic.audio import AUDIO_EXTENSIONS
from deepmusic.errors import DataError, os_reason

if TYPE_CHECKING:
    from deepmusic.audio.scan import AudioScan

_ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256"}  # by the length of a hexadecimal digest


@dataclass(frozen=True)
class ChecksumTable:
    """The checksums that files should have."""

    path: Path  # of the table
    algorithm: str  # md5, sha1 or sha256
    digests: Mapping[str, str]  # in lower-case hexadecimal, by the absolute path of the file

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> ChecksumTable:
        """Read a table; its paths are relative to its folder.

        Raises:
            DataError: it cannot be read, or is something else.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        except OSError as error:
            raise DataError(f"The checksums {path} cannot be read: {os_reason(error)}.") from error
        digests: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            match = re.fullmatch(r"([0-9a-fA-F]+) [ *](.+)", line)
            if match is not None and len(match[1]) in _ALGORITHMS:
                digests[os.path.abspath(path.parent / match[2])] = match[1].lower()
            elif line.strip():
                raise DataError(
                    f"Line {number} of {path} is not a checksum; a line is an MD5, SHA-1 or "
                    "SHA-256, two spaces and a path."
                )
        lengths = {len(digest) for digest in digests.values()}
        if len(lengths) != 1:
            raise DataError(f"{path} holds {'several kinds of' if lengths else 'no'} checksums.")
        return cls(path, _ALGORITHMS[lengths.pop()], digests)

    def differences(self, scans: Mapping[str, AudioScan]) -> Iterator[tuple[str, str, str]]:
        """Path, code and sentence for each file that differs, is not listed, or is missing.

        Args:
            scans: by path, with a `checksum` of `algorithm`.
        """
        absolute = {os.path.abspath(path): scan for path, scan in scans.items()}
        for path, scan in absolute.items():
            expected = self.digests.get(path)
            if expected is None:
                if not scan.code:
                    yield scan.path, "unlisted", f"{self.path} does not list it."
            elif scan.checksum and scan.checksum != expected:
                message = f"Its {self.algorithm} is {scan.checksum}; {self.path} has {expected}."
                yield scan.path, "checksum", message
        folders = {os.path.dirname(path) for path in absolute}
        for path in sorted(self.digests.keys() - absolute.keys()):
            is_audio = os.path.splitext(path)[1].lower() in AUDIO_EXTENSIONS
            if is_audio and os.path.dirname(path) in folders and not os.path.exists(path):
                yield path, "missing", f"{path!r} does not exist, and {self.path} lists it."
