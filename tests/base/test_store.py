"""The store of finished work: kept through kills, refused where it is something else."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from deepmusic.errors import DataError
from deepmusic.store import Store, content_digest
from faults import small_files

WRITER = """
import sys
from deepmusic.store import Store
with Store(sys.argv[1], "numbers") as store:
    for number in range(len(store), 100_000):
        store.put(str(number), {"square": number * number})
        print(number, flush=True)
"""

keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
records = st.dictionaries(keys, st.none() | st.booleans() | st.integers() | keys, max_size=4)


@pytest.mark.slow
@settings(max_examples=30)
@given(puts=st.lists(st.tuples(keys, records), max_size=12))
def test_it_is_a_dictionary_on_disk(
    tmp_path_factory: pytest.TempPathFactory, puts: list[tuple[str, dict[str, object]]]
) -> None:
    path = tmp_path_factory.mktemp("store") / "work.db"
    expected: dict[str, dict[str, object]] = {}
    for key, record in puts:
        with Store(path, "things", {"n": 1}) as store:  # opened anew each time
            store.put(key, record)
        expected[key] = record
    with Store(path, "things", {"n": 1}) as store:
        assert dict(store.items()) == expected
        assert list(dict(store.items())) == list(expected)
        assert len(store) == len(expected)
        for key in expected:
            assert key in store
            store.delete(key)
        assert len(store) == 0
        store.remove()
    assert list(path.parent.iterdir()) == []


@pytest.mark.slow
def test_what_was_put_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "work.db"
    done = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        last = -1
        for _ in range(40):
            last = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with Store(path, "numbers") as store:
            assert len(store) > last >= done
            done = len(store)
            for key, record in store.items():
                assert record == {"square": int(key) ** 2}


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 5_000, 9_000, 17_000, 30_000])
def test_what_was_put_outlives_a_full_disk(tmp_path: Path, size: int) -> None:
    path, done = tmp_path / "work.db", 0

    def fill() -> None:
        nonlocal done
        with Store(path, "texts") as store:
            for number in range(len(store), 12):
                store.put(str(number), {"text": "x" * 2000})
                done += 1

    with small_files(size), pytest.raises(DataError, match=r"^[^\n]*cannot be used[^\n]*\.$"):
        fill()
    with Store(path, "texts") as store:
        assert [key for key, _ in store.items()] == [str(number) for number in range(done)]
    fill()
    with Store(path, "texts") as store:
        assert len(store) == 12
    assert list(tmp_path.iterdir()) == [path]


def test_threads_share_a_store(tmp_path: Path) -> None:
    with Store(tmp_path / "work.db", "things") as store:

        def put(start: int) -> None:
            for number in range(start, start + 25):
                store.put(str(number), {"n": number})

        threads = [threading.Thread(target=put, args=(start,)) for start in range(0, 100, 25)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store) == 100


def test_something_else_is_refused_in_one_sentence_and_left_alone(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.write_text("my diary, which is longer than the header of a database " * 20)
    before = diary.read_bytes()
    with pytest.raises(DataError, match="is not a store of features, and was left as it is"):
        Store(diary, "features")
    assert diary.read_bytes() == before
    Store(tmp_path / "a.db", "verdicts").close()
    with pytest.raises(DataError, match="is not a store of features"):
        Store(tmp_path / "a.db", "features")
    Store(tmp_path / "b.db", "features", {"recipe": "fma"}).close()
    with pytest.raises(DataError, match=r'other settings \(recipe "fma"\): delete it'):
        Store(tmp_path / "b.db", "features", {"recipe": "librosa"})
    with pytest.raises(DataError, match="not a regular file"):
        Store(tmp_path, "features")
    with pytest.raises(DataError, match="cannot be used: unable to open"):
        Store(tmp_path / "missing" / "c.db", "features")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that stores hash."""
    names: list[str] = []
    monkeypatch.setattr(
        "deepmusic.store.content_digest",
        lambda path: names.append(os.path.basename(path)) or content_digest(path),
    )
    return names


def write_at(path: Path, content: bytes, second: int = 1_000_000_000) -> Path:
    path.write_bytes(content)
    os.utime(path, (second, second))
    return path


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path: Path, hashed: list[str]) -> None:
    path = write_at(tmp_path / "song.mp3", b"first")
    with Store(tmp_path / "work.db", "things") as store:
        digest = store.file_digest(path)
        assert store.file_digest(path) == digest == content_digest(path)
        assert len(hashed) == 1
        write_at(path, b"second", int(time.time()))
        # just now: it may change again within the clock's tick
        assert store.file_digest(path) != digest
        store.file_digest(path)
        assert len(hashed) == 3


def test_known_files_are_known_in_the_next_run(tmp_path: Path, hashed: list[str]) -> None:
    paths = [write_at(tmp_path / f"{n}.mp3", b"%d" % n, 10**9 + n % 2) for n in range(20)]
    for expected in (20, 20):
        with Store(tmp_path / "work.db", "things") as store:
            digests = {path: store.file_digest(path) for path in paths}
        assert len(hashed) == expected
    assert digests == {path: content_digest(path) for path in paths}
    os.replace(paths[0], tmp_path / "moved.mp3")
    with Store(tmp_path / "work.db", "things") as store:
        assert store.file_digest(tmp_path / "moved.mp3") == digests[paths[0]]
        assert store.file_digest(paths[1]) == digests[paths[1]]
    assert hashed[20:] == ["moved.mp3"]


def test_files_of_one_size_and_time_that_change_places_are_told_apart(tmp_path: Path) -> None:
    one, other = write_at(tmp_path / "1.wav", b"one"), write_at(tmp_path / "2.wav", b"two")
    with Store(tmp_path / "work.db", "things") as store:
        before = [store.file_digest(one), store.file_digest(other)]
    os.replace(one, tmp_path / "3.wav")
    os.replace(other, one)
    os.replace(tmp_path / "3.wav", other)
    with Store(tmp_path / "work.db", "things") as store:
        assert [store.file_digest(other), store.file_digest(one)] == before


def test_a_locked_store_costs_only_hashing_at_the_end(tmp_path: Path, hashed: list[str]) -> None:
    path = write_at(tmp_path / "1.wav", b"one")
    store = Store(tmp_path / "work.db", "things")
    store._database.execute("PRAGMA busy_timeout = 1")
    store.file_digest(path)
    other = sqlite3.connect(tmp_path / "work.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DataError, match="locked"):
        store.put("a", {})
    store.file_digest(path)
    store.close()
    other.close()
    assert len(hashed) <= 2


@pytest.mark.parametrize("content", [b"x", b"my notes\n" * 9, b"SQLite format 3"])
def test_a_short_file_of_something_else_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(DataError, match="is not a store of verdicts, and was left as it is"):
        Store(tmp_path / "notes", "verdicts")
    assert (tmp_path / "notes").read_bytes() == content
