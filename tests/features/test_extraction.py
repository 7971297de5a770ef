"""Rows of files: values, or a reason; in this process, in several, and on a Dask cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from recordings import write_tone

from deepmusic.audio import load
from deepmusic.errors import DeepMusicError
from deepmusic.features import (
    RECIPES,
    TrackFeatures,
    extract,
    extract_file,
    extraction as extraction_module,
    feature_columns,
    feature_rows,
)

FMA = RECIPES["fma"]


def tones(folder: Path, count: int) -> list[str]:
    return [str(write_tone(folder / f"{n}.wav", 200 + 30 * n)) for n in range(count)]


def same(rows: list[TrackFeatures], others: list[TrackFeatures]) -> bool:
    by_path = {row.path: row for row in others}
    return len(rows) == len(others) == len(by_path) and all(
        np.array_equal(row.columns, by_path[row.path].columns, equal_nan=True) for row in rows
    )


def test_a_row_holds_the_features_at_the_files_own_rate(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", sample_rate=44100, seconds=1.5)
    row = extract_file(path, FMA)
    sound = load(path, sample_rate=44100).samples
    np.testing.assert_array_equal(row.columns, feature_columns(feature_rows(sound, 44100)))
    assert (row.code, row.error, row.warning, row.sample_rate) == ("", "", "", 44100)
    assert row.duration_s == pytest.approx(1.5)
    assert (row.size, row.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


def test_a_long_track_is_computed_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tone(tmp_path / "a.flac", sample_rate=44100, seconds=6)
    whole = extract_file(path, FMA)
    monkeypatch.setattr(extraction_module, "_KEPT_S", 2.0)
    pieces = extract_file(path, FMA)
    assert pieces.duration_s == whole.duration_s
    np.testing.assert_allclose(pieces.columns, whole.columns, rtol=1e-3, atol=1e-3)


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    row = extract_file(write_tone(tmp_path / "a.wav", seconds=3), FMA, max_seconds=1)
    assert row.duration_s == pytest.approx(1)
    assert "1.0 s" in row.warning


def test_a_reason_stands_for_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.mp3").write_text("no sound in here\n" * 50)
    for name, code in (("empty.mp3", "empty"), ("text.mp3", "not_audio"), ("none.mp3", "missing")):
        row = extract_file(tmp_path / name, FMA)
        assert row.code == code
        assert row.error.count(".") >= 1
        assert "\n" not in row.error
        assert not row.is_done
        assert np.isnan(row.columns).all()


def test_too_low_a_rate_is_said(tmp_path: Path) -> None:
    row = extract_file(write_tone(tmp_path / "a.wav", sample_rate=8000), FMA)
    assert row.code == "low_rate"
    assert row.is_done
    assert "8000" in row.error
    assert np.isnan(row.columns).sum() == 7 * (12 + 12 + 6)


def test_a_bug_that_one_file_uncovers_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IndexError("out of\nbounds")

    monkeypatch.setattr(extraction_module, "families_of", fail)
    row = extract_file(write_tone(tmp_path / "a.wav"), FMA)
    assert row.code == "unexpected"
    assert "IndexError: out of bounds" in row.error


def test_processes_give_what_one_gives(tmp_path: Path) -> None:
    paths = [*tones(tmp_path, 7), str(tmp_path / "none.wav")]
    alone = list(extract([*paths, paths[0]], FMA))
    assert [row.path for row in alone] == paths
    assert same(list(extract(paths, FMA, workers=2)), alone)


def killing(path: str, *, marks: Path, times: int) -> TrackFeatures:
    """A worker's function that ends its process for one file, so many times."""
    if path.endswith("3.wav"):
        killed = len(list(marks.iterdir()))
        if killed < times:
            (marks / str(killed)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return extract_file(path, FMA)


@pytest.fixture
def kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Have the file 3.wav kill its worker."""

    def arrange(times: int) -> Path:
        marks = tmp_path / "marks"
        marks.mkdir()
        function = partial(killing, marks=marks, times=times)
        monkeypatch.setattr(extraction_module, "partial", lambda *_, **__: function)
        return marks

    return arrange


def test_a_worker_that_dies_costs_no_row(tmp_path: Path, kills: Callable[[int], Path]) -> None:
    paths = tones(tmp_path, 8)
    expected = [extract_file(path, FMA) for path in paths]
    marks = kills(1)
    assert same(list(extract(paths, FMA, workers=2)), expected)
    assert len(list(marks.iterdir())) == 1


def test_a_file_that_kills_its_worker_gets_a_reason(
    tmp_path: Path, kills: Callable[[int], Path]
) -> None:
    paths = tones(tmp_path, 6)
    kills(99)
    rows = {row.path: row for row in extract(paths, FMA, workers=2)}
    assert set(rows) == set(paths)
    assert rows[paths[3]].code == "worker_died"
    assert sum(row.is_done for row in rows.values()) == 5


@pytest.fixture(scope="module")
def dask_address() -> Iterator[str]:
    """A cluster of two worker processes on this machine."""
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        )
    with cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_a_dask_cluster_gives_what_one_process_gives(tmp_path: Path, dask_address: str) -> None:
    paths = [*tones(tmp_path, 6), str(tmp_path / "none.wav")]
    assert same(list(extract(paths, FMA, dask=dask_address)), list(extract(paths, FMA)))


@pytest.mark.slow
def test_a_dask_worker_that_is_killed_costs_no_row(tmp_path: Path, dask_address: str) -> None:
    paths = tones(tmp_path, 30)
    rows = []
    for row in extract(paths, FMA, dask=dask_address):
        rows.append(row)
        if len(rows) == 3:
            workers = [
                child
                for child in psutil.Process().children(recursive=True)
                if "spawn_main" in " ".join(child.cmdline())
            ]
            workers[0].kill()
    assert same(rows, list(extract(paths, FMA)))


def test_a_cluster_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("deepmusic.parallel._CONNECT_TIMEOUT_S", 0.3)
    with pytest.raises(
        DeepMusicError, match=r"No Dask scheduler answers at 'tcp://127\.0\.0\.1:9'"
    ):
        list(extract(["a.wav"], FMA, dask="tcp://127.0.0.1:9"))


def test_a_new_process_finds_the_compiled_code(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from deepmusic.features import RECIPES, extract_file\n"
        "from deepmusic.features.spectral import _rolled_off\n"
        "row = extract_file(sys.argv[1], RECIPES['fma'])\n"
        "assert row.is_done\n"
        "print(sum(_rolled_off.stats.cache_hits.values()))\n"
        "assert not {'torch', 'librosa', 'pandas'} & set(sys.modules), 'too much is imported'\n"
    )
    command = [sys.executable, "-c", code, str(write_tone(tmp_path / "a.wav"))]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1


def test_many_channels_and_high_rates(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).standard_normal((19200, 8)) * 0.1
    path = tmp_path / "a.wav"
    soundfile.write(path, sound, 192_000)
    row = extract_file(path, FMA)
    assert row.code == ""
    assert np.isfinite(row.columns).all()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read in /proc")
def test_a_long_track_is_streamed_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    second = write_tone(tmp_path / "a.wav", seconds=1, sample_rate=44100)
    with soundfile.SoundFile(path, "w", samplerate=44100, channels=1) as file:
        sound, _ = soundfile.read(second, dtype="int16")
        for _ in range(20 * 60):
            file.write(sound)
    code = (
        "import sys\n"
        "from deepmusic.features import RECIPES, extract_file\n"
        "row = extract_file(sys.argv[1], RECIPES['fma'])\n"
        "assert not row.code and row.duration_s == 1200, row.error\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print(next(line for line in lines if line.startswith('VmHWM')).split()[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    # its spectra alone, were they kept, would take 480 MB
    assert int(done.stdout) / 1024 < 350
