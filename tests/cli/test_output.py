"""Text, JSON and CSV hold whatever a file may be called."""

from __future__ import annotations

import csv
import io
import json
import os

import pytest
from hypothesis import given, strategies as st

from deepmusic.classifier.verdict import GenreProbability, Verdict
from deepmusic.cli.output import CSV_COLUMNS, Format, printable, table_lines, writer

TOP = (GenreProbability("rock", 0.625), GenreProbability("pop", 0.375))


def verdict(path: str, genre: str | None = "rock") -> Verdict:
    return Verdict(path=path, genre=genre, confidence=0.625, top=TOP, duration_s=29.98765)


def written(form: Format, *verdicts: Verdict, top: int | None = None, **options: bool) -> str:
    parts: list[str] = []
    with writer(form, parts.append, top=top, **options) as write:
        for entry in verdicts:
            write(entry)
    return "".join(parts)


# any bytes but the null are a name on Linux
names = st.binary(min_size=1, max_size=40).filter(lambda b: b"\0" not in b).map(os.fsdecode)


def test_wide_tables_continue_below() -> None:
    rows = [("genre", "first", "second", "third"), ("ジャズ", 1, 2, 3), ("rock", 4, 5, 6)]
    assert list(table_lines(rows, 24)) == [
        "genre   first  second",
        "ジャズ      1       2",
        "rock        4       5",
        "",
        "genre   third",
        "ジャズ      3",
        "rock        6",
    ]


@given(names)
def test_json_gives_the_bytes_of_a_name_back(name: str) -> None:
    text = written("json", verdict(name))
    assert text.isascii()
    assert os.fsencode(json.loads(text)[0]["path"]) == os.fsencode(name)


@given(st.lists(names, max_size=3))
def test_csv_has_one_row_per_verdict_and_can_be_encoded(paths: list[str]) -> None:
    text = written("csv", *map(verdict, paths))
    assert text.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(text.encode("utf-8").decode("utf-8"), newline="")))
    assert len(rows) == len(paths)
    for row, path in zip(rows, paths, strict=True):
        assert tuple(row) == CSV_COLUMNS
        if not any("\ud800" <= letter <= "\udfff" for letter in path):
            assert row["path"] == path
        assert row["genre"] == "rock"
        assert row["unsure"] == "false"


@given(names)
def test_text_is_one_harmless_line(name: str) -> None:
    line = written("text", verdict(name))
    assert line.endswith("\n")
    shown = line[:-1].replace("\u200c", "").replace("\u200d", "")
    assert shown.isprintable()
    assert line.encode("utf-8")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain name.mp3", "plain name.mp3"),
        ("音楽 🎵.mp3", "音楽 🎵.mp3"),
        ("a\nb", r"a\nb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202egnp.mp3", r"\u202egnp.mp3"),
        (os.fsdecode(b"latin1_\xe9.mp3"), r"latin1_\xe9.mp3"),
    ],
)
def test_printable(name: str, expected: str) -> None:
    assert printable(name) == expected


def test_text_is_aligned() -> None:
    failed = Verdict(path="bad.mp3", error="'bad.mp3' is empty.", code="empty")
    lines = written("text", verdict("a.mp3"), verdict("b.mp3", None), failed).splitlines()
    assert lines == [
        "rock         62%  a.mp3",
        "unsure       62%  b.mp3  (rock 62%, pop 38%)",
    ]
    assert written("text", verdict("a"), top=1) == "rock         62%  a  (rock 62%)\n"


def test_json_is_complete_whatever_happens() -> None:
    assert json.loads(written("json")) == []
    failed = Verdict(path="bad.mp3", error="it is empty", code="empty")
    parts: list[str] = []

    def interrupted() -> None:
        with writer("json", parts.append, top=1) as write:
            write(verdict("a"))
            write(failed)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    first, second = json.loads("".join(parts))
    assert (first["path"], first["genre"]) == ("a", "rock")
    assert (second["genre"], second["error"], second["top"]) == (None, "it is empty", [])


def test_csv_on_a_terminal_is_escaped() -> None:
    assert "\x1b" in written("csv", verdict("\x1b[31m"))
    assert "\x1b" not in written("csv", verdict("\x1b[31m"), on_terminal=True)
