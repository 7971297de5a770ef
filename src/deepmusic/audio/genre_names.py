"""Names of genres as a library spells them: never a "rock" beside its "Rock".

Files of rules say what else is one genre. Those of beets are read as they are: the tree and the
aliases of its plugin lastgenre (https://beets.readthedocs.io/en/stable/plugins/lastgenre.html).
"""

from __future__ import annotations

import csv
import os
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepmusic.errors import DataError, os_reason
from deepmusic.extras import need

PLACEHOLDERS = {
    "andere", "anderes", "altro", "autre", "autres", "blank", "default", "desconocido",
    "divers", "diverse", "empty", "general", "generalunclassifiable", "generic", "genre",
    "genres", "inconnu", "misc", "miscellaneous", "miscellany", "music", "na", "nil", "nogenre",
    "none", "noname", "notset", "null", "other", "others", "otro", "otros", "sconosciuto",
    "sonstige", "sonstiges", "unbekannt", "unclassifiable", "unclassified", "uncategorized",
    "undefined", "unknown", "unknowngenre", "unset", "unspecified", "untagged", "various",
}  # fmt: skip
"""Folded names (see `folded`) that say nothing, and may be replaced."""

_HEADINGS = {"genre", "model", "modelgenre", "from"}


def folded(genre: str) -> str:
    """What all spellings of a genre have in common: letters and digits, "&" being "and".

    Example:
        >>> folded("Hip-Hop") == folded("hip hop") == folded("HipHop")
        True
    """
    text = unicodedata.normalize("NFKD", genre.casefold())
    text = unicodedata.normalize("NFKC", re.sub(r"[\u0300-\u036f]", "", text))
    text = re.sub(r"[&+]|(?<=\w)[\s'’‘`-]+n[\s'’‘`-]+(?=\w)", "and", text)
    return "".join(filter(str.isalnum, text)) or text


def is_placeholder(genre: str) -> bool:
    """Whether a genre says nothing, such as "Other"."""
    return folded(genre) in PLACEHOLDERS or not re.search(r"\w", genre)


@dataclass(frozen=True)
class GenreRules:
    """What `read_genre_rules` has read; keys are folded."""

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of a genre of the model
    aliases: tuple[
        tuple[re.Pattern[str], str], ...
    ] = ()  # of names in lower case; the first counts
    lines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # genre, parent, ..., root
    spellings: Mapping[str, str] = field(default_factory=dict)  # of a list of genres


class GenreNames:
    """Gives genres the names that a library has for them.

    Args:
        library: the genres of all its tags, each as often as it is there; the usual spelling wins.
        rules: what is one genre beyond `folded`.
    """

    def __init__(self, library: Iterable[str] = (), rules: GenreRules | None = None) -> None:
        self._rules = rules or GenreRules()
        spellings: dict[str, Counter[str]] = {}
        for genre in library:
            if not is_placeholder(genre):
                spellings.setdefault(self._key(genre), Counter())[genre] += 1
        most_used = {
            key: max(counts, key=lambda name: (counts[name], name != name.lower(), name))
            for key, counts in spellings.items()
        }
        self._library = {**self._rules.spellings, **most_used}

    def __call__(self, genres: Iterable[str]) -> tuple[str, ...]:
        """The names of genres of a model, each once; none of those that a rule leaves out."""
        names: dict[str, str] = {}
        for genre in genres:
            for name in self._named(genre):
                names.setdefault(self._key(name), name)
        return tuple(names.values())

    def _named(self, genre: str) -> tuple[str, ...]:
        if (names := self._rules.names.get(folded(genre))) is not None:
            return names
        genre = self._canonical(genre)
        line = self._rules.lines.get(folded(genre), (genre,))
        known = (self._library[key] for key in map(self._key, line) if key in self._library)
        return (next(known, line[0]),)

    def _key(self, genre: str) -> str:
        return folded(self._canonical(genre))

    def _canonical(self, genre: str) -> str:
        for pattern, template in self._rules.aliases:
            if match := pattern.fullmatch(genre.strip().lower()):
                return match.expand(template)
        return genre


def read_genre_rules(paths: Iterable[str | os.PathLike[str]]) -> GenreRules:
    """Read files of rules for names of genres; of two rules for one genre the first counts.

    - ``.csv``, ``.tsv``: a genre of the model and the library's name, or several between
      semicolons; no name leaves the genre out. A first row of headings is skipped.
    - ``.toml``: the same as ``genre = "name"`` or ``genre = ["name", "name"]``.
    - ``.yaml``: the same as ``genre: name``; or beets' aliases, ``name: [pattern, pattern]``; or
      beets' tree of genres, by which a genre that the library lacks becomes the next more general
      one that it has.
    - ``.txt``: a genre per line, as beets' whitelist: how genres are spelled that no tag names.

    Raises:
        DataError: a file is missing, damaged or of another kind.
        MissingLibraryError: PyYAML is not installed, and a file is YAML.
    """
    names: dict[str, tuple[str, ...]] = {}
    aliases: list[tuple[re.Pattern[str], str]] = []
    lines: dict[str, tuple[str, ...]] = {}
    spellings: dict[str, str] = {}
    for path in map(Path, paths):
        rules = _read(path)
        if isinstance(rules, list):
            if path.suffix.lower() == ".txt":
                for name in rules:
                    spellings.setdefault(folded(name), name)
            else:
                for line in _lines(rules, ()):
                    lines.setdefault(folded(line[0]), line)
            continue
        for genre, value in rules.items():
            values = [value] if isinstance(value, str) else value
            if not (isinstance(values, list) and all(isinstance(v, str) for v in values)):
                raise DataError(f"{path}: {genre!r} has neither a name nor a list; got {value!r}.")
            if values is value and path.suffix.lower() in (".yaml", ".yml"):
                aliases += [_alias(path, genre, pattern) for pattern in values]
            else:
                found = tuple(filter(None, (n.strip() for v in values for n in v.split(";"))))
                names.setdefault(folded(genre), found)
    for name in (*spellings.values(), *(name for several in names.values() for name in several)):
        if not name.isprintable():
            raise DataError(f"The genre {name!r} is not one line of text.")
    return GenreRules(names, tuple(aliases), lines, spellings)


def _read(path: Path) -> dict[str, Any] | list[Any]:
    """The content of a file: a mapping, a list of lines, or a tree as nested lists."""
    kind = path.suffix.lower()
    try:
        text = path.read_text("utf-8-sig")
        if kind in (".csv", ".tsv"):
            return dict(_rows(path, text, "\t" if kind == ".tsv" else ","))
        if kind == ".toml":
            return tomllib.loads(text)
        if kind == ".txt":
            stripped = (line.strip() for line in text.splitlines())
            return [line for line in stripped if line and not line.startswith("#")]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {os_reason(error)}.") from error
    except ValueError as error:  # of TOML, of UTF-8
        raise DataError(f"{path} is damaged: {error}.") from error
    if kind not in (".yaml", ".yml"):
        raise DataError(f"{path}: names of genres are read from .csv, .tsv, .toml, .yaml and .txt.")
    need("yaml")
    import yaml

    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if isinstance(content, list):
        return content
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no names of genres.")
    lists = (value for value in content.values() if isinstance(value, list))
    if any(isinstance(entry, dict) for value in lists for entry in value):
        return [content]  # a tree
    return {str(genre): "" if value is None else value for genre, value in content.items()}


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1):
        if not "".join(row).strip() or row[0].lstrip().startswith("#"):
            continue
        if len(row) != 2:
            raise DataError(
                f"{path}, line {number}: a row is a genre of the model and the library's name; got "
                f"{len(row)} columns."
            )
        if number > 1 or folded(row[0]) not in _HEADINGS:
            yield row[0].strip(), row[1]


def _alias(path: Path, template: str, pattern: str) -> tuple[re.Pattern[str], str]:
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
        compiled.sub(template, "")  # refuses groups that the pattern lacks
    except (re.error, IndexError) as error:
        raise DataError(f"{path}: the alias {pattern!r} of {template!r}: {error}.") from error
    return compiled, template


def _lines(tree: object, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Each genre of a tree with those above it, the next first."""
    if isinstance(tree, list):
        for branch in tree:
            yield from _lines(branch, above)
    elif isinstance(tree, dict):
        for genre, branches in tree.items():
            yield (line := (str(genre), *above))
            yield from _lines(branches, line)
    elif tree is not None:
        yield (str(tree), *above)
