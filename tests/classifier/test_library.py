"""Walking folders of whatever people have, and hearing each track once."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from deepmusic.classifier.library import classify_library, walk_audio
from deepmusic.classifier.results import ResultsFile, content_hash
from deepmusic.classifier.verdict import GenreProbability, SegmentVerdict, Verdict
from deepmusic.errors import AudioError, DataError

ROCK = GenreProbability("rock", 1.0)


class Echo:
    """Says the file's content as its genre."""

    digest = "echo"

    def __init__(self) -> None:
        self.heard: list[str] = []

    def classify(self, source: str, *, max_seconds: float) -> Verdict:
        content = Path(source).read_text()
        self.heard.append(source)
        if content == "bad":
            raise AudioError("bad", code="not_audio")
        return Verdict(
            path=source,
            genre=content,
            confidence=1 / 3,
            top=(ROCK,),
            duration_s=1.0,
            segments=(SegmentVerdict(0.0, 3.0, (ROCK,), (0.5,)),),
        )


def codes(*paths: Path) -> list[str | None]:
    """Names of tracks, and codes of reasons in brackets."""
    return [
        os.path.basename(entry) if isinstance(entry, str) else f"[{entry.code}]"
        for entry in walk_audio(paths)
    ]


def test_walk_sorts_and_picks(tmp_path: Path) -> None:
    for name in ("b.mp3", "A.FLAC", "c/x.m4a", "c/cover.jpg", "._a.mp3", ".git/x.mp3", "t.mp3 "):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("rock")
    assert codes(tmp_path) == ["A.FLAC", "b.mp3", "x.m4a", "t.mp3 "]


def test_walk_gives_reasons(tmp_path: Path) -> None:
    (tmp_path / "song.mp3").mkdir()
    (tmp_path / "song.mp3" / ".gitkeep").touch()
    (tmp_path / "loop_a.mp3").symlink_to("loop_b.mp3")
    (tmp_path / "loop_b.mp3").symlink_to("loop_a.mp3")
    (tmp_path / "dangling.mp3").symlink_to("gone.mp3")
    (tmp_path / "gone_folder").symlink_to("gone")
    os.mkfifo(tmp_path / "fifo.mp3")
    os.mkfifo(tmp_path / "other_fifo")
    assert codes(tmp_path) == [
        "[missing]",
        "[not_a_file]",
        "[missing]",
        "[missing]",
        "[directory]",
    ]
    assert codes(tmp_path / "song.mp3") == ["[no_files]"]
    assert codes(tmp_path / "other_fifo") == ["[not_a_file]"]
    assert codes(tmp_path / "gone", Path("nul\0l")) == ["[missing]", "[missing]"]
    (dangling,) = walk_audio([tmp_path / "dangling.mp3"])
    assert isinstance(dangling, Verdict)
    assert "link to nothing" in str(dangling.error)


def test_walk_ends_where_folders_hold_their_parents(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "a.mp3").touch()
    assert codes(tmp_path) == ["a.mp3"]
    assert codes(tmp_path, tmp_path) == ["a.mp3", "a.mp3"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_walk_names_what_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    assert codes(tmp_path) == ["[permission]"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_order_and_reasons(tmp_path: Path, jobs: int) -> None:
    contents = ["rock", "bad", "pop"] * 80  # more than the threads may be ahead of the output
    entries: list[str | Verdict] = [Verdict(path="x", error="e", code="c")]
    for index, content in enumerate(contents):
        path = tmp_path / str(index)
        path.write_text(content)
        entries.append(str(path))
    verdicts = list(classify_library(entries, Echo(), jobs=jobs))
    assert [v.genre or v.code for v in verdicts] == [
        "c",
        *("not_audio" if content == "bad" else content for content in contents),
    ]
    assert all(not verdict.segments for verdict in verdicts)


def test_jobs_run_side_by_side(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=20)

    class Waiting(Echo):
        def classify(self, source: str, *, max_seconds: float) -> Verdict:
            together.wait()  # breaks unless three are here at once
            return Verdict(path=source, genre="rock")

    verdicts = list(classify_library(["a", "b", "c"], Waiting(), jobs=3))
    assert [verdict.genre for verdict in verdicts] == ["rock"] * 3


def test_jobs_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="jobs"):
        list(classify_library([], Echo(), jobs=0))


def test_results_are_found_by_content(tmp_path: Path) -> None:
    for name, content in {"a": "rock", "b": "rock", "c": "bad"}.items():
        (tmp_path / name).write_text(content)
    entries = [str(tmp_path / name) for name in "abc"]

    def run(classifier: Echo, *, segments: bool = False, max_seconds: float = 9.0) -> list[Verdict]:
        with ResultsFile(
            tmp_path / "kept", model=classifier.digest, max_seconds=max_seconds
        ) as results:
            return list(
                classify_library(
                    entries, classifier, results=results, segments=segments, max_seconds=max_seconds
                )
            )

    first = Echo()
    run(first)
    assert first.heard == [entries[0], entries[2]]  # b has the content of a
    again = Echo()
    verdicts = run(again)
    assert again.heard == [entries[2]]
    assert [verdict.path for verdict in verdicts] == entries
    assert verdicts[0].confidence == 0.3333

    with_segments = Echo()
    heard = run(with_segments, segments=True)
    assert with_segments.heard == [entries[0], entries[2]]
    remembered = Echo()
    assert run(remembered, segments=True)[0].segments == heard[0].segments
    assert remembered.heard == [entries[2]]

    other_length = Echo()
    run(other_length, max_seconds=5.0)
    assert other_length.heard == [entries[0], entries[2]]
    other_model = Echo()
    other_model.digest = "another"
    run(other_model)
    assert other_model.heard == [entries[0], entries[2]]


def test_results_survive_a_cut_anywhere(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    with ResultsFile(whole, model="m") as results:
        results.add("1", Verdict(path="a", genre="rock"))
        results.add("2", Verdict(path="b\udcff", genre="pop"))
    content = whole.read_bytes()
    first = content.index(b"\n") + 1
    cut = tmp_path / "cut"
    for length in range(len(content) + 1):
        cut.write_bytes(content[:length])
        with ResultsFile(cut, model="m") as results:
            assert (results.find("1", path="a") is not None) == (length >= first)
            assert (results.find("2", path="b") is not None) == (length == len(content))
            results.add("3", Verdict(path="c", genre="folk"))
            found = results.find("3", path="c")
            assert found is not None
            assert found.genre == "folk"
        with ResultsFile(cut, model="m") as results:
            assert results.find("3", path="c") is not None


@pytest.mark.parametrize("content", [b"my diary\n", b"my diary", b"[]\n", b"\xff\xfb\x90\x00" * 9])
def test_foreign_files_are_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not touched"):
        ResultsFile(path, model="m")
    assert path.read_bytes() == content


def test_results_refuse_folders_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="regular"):
        ResultsFile(tmp_path, model="m")
    with pytest.raises(DataError, match="no such file"):
        ResultsFile(tmp_path / "no" / "kept", model="m")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ResultsFile(tmp_path / "kept", model="m") as results, open("/dev/full", "wb", 0) as full:
        monkeypatch.setattr(results, "_file", full)
        with pytest.raises(DataError, match="no space left"):
            results.add("1", Verdict(path="a", genre="rock"))


def test_content_hash_is_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    (tmp_path / "b").write_bytes(b"x" * 100_000)
    (tmp_path / "c").write_bytes(b"x" * 99_999 + b"y")
    a, b, c = (content_hash(tmp_path / name) for name in "abc")
    assert a == b != c
