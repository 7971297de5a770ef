"""The store of finished work: kept through kills, refused where it is something else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from deepmusic.errors import DataError
from deepmusic.store import Store, content_digest

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


def test_a_file_is_hashed_again_only_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(b"first")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    hashed: list[object] = []
    monkeypatch.setattr(
        "deepmusic.store.content_digest", lambda p: hashed.append(p) or content_digest(p)
    )
    with Store(tmp_path / "work.db", "things") as store:
        digest = store.file_digest(path)
        assert store.file_digest(path) == digest == content_digest(path)
        assert len(hashed) == 1
        path.write_bytes(b"second")  # just now: it may change again within the clock's tick
        assert store.file_digest(path) != digest
        store.file_digest(path)
        assert len(hashed) == 3
