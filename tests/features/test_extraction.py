"""Rows of files and tables of libraries: in this process, in several, and on a Dask cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import soundfile
from recordings import write_tone
from scipy.signal import resample_poly

from deepmusic.audio import NotAudio, find_audio, load
from deepmusic.errors import DataError, DeepMusicError
from deepmusic.features import (
    RECIPES,
    FeatureTable,
    TrackFeatures,
    extract,
    extract_file,
    extract_library,
    extraction as extraction_module,
    feature_columns,
    frame_features,
    read_features,
    write_features,
)
from deepmusic.store import Store
from faults import each_fault, small_files

FMA = RECIPES["fma"]


def tones(folder: Path, count: int) -> list[str]:
    return [str(write_tone(folder / f"{n}.wav", 200 + 30 * n)) for n in range(count)]


def same(rows: list[TrackFeatures], others: list[TrackFeatures]) -> bool:
    by_path = {row.path: row for row in others}
    return len(rows) == len(others) == len(by_path) and all(
        np.allclose(row.columns, by_path[row.path].columns, rtol=1e-5, equal_nan=True)
        for row in rows
    )


def test_a_row_has_the_features_at_the_own_rate_of_the_file(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", sample_rate=44100, seconds=1.5)
    row = extract_file(path, FMA)
    sound = load(path, sample_rate=44100).samples
    np.testing.assert_allclose(row.columns, feature_columns(frame_features(sound, 44100)))
    assert (row.code, row.error, row.warning, row.sample_rate) == ("", "", "", 44100)
    assert row.duration_s == pytest.approx(1.5)
    assert row.silent_share == 0
    assert (row.size, row.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


def test_the_share_of_silence(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", seconds=1)
    sound, rate = soundfile.read(path)
    soundfile.write(path, np.pad(sound, (0, 3 * rate)), rate)
    assert extract_file(path, FMA).silent_share == pytest.approx(0.75, abs=0.02)
    assert extract_file(tmp_path / "missing.wav", FMA).silent_share is None


def test_the_bandwidth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * 11_025)
    path = tmp_path / "a.wav"
    soundfile.write(path, resample_poly(noise, 4, 1), 44_100)
    assert extract_file(path, FMA).bandwidth_hz == pytest.approx(5512, abs=500)
    monkeypatch.setattr(extraction_module, "_IN_MEMORY_S", 2.0)
    assert extract_file(path, FMA).bandwidth_hz == pytest.approx(5512, abs=500)
    assert extract_file(tmp_path / "missing.wav", FMA).bandwidth_hz is None


def test_a_long_track_is_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tone(tmp_path / "a.flac", sample_rate=44100, seconds=6)
    whole = extract_file(path, FMA)
    monkeypatch.setattr(extraction_module, "_IN_MEMORY_S", 2.0)
    twice = extract_file(path, FMA)
    assert twice.duration_s == whole.duration_s
    np.testing.assert_allclose(twice.columns, whole.columns, rtol=1e-3, atol=1e-3)


def test_no_more_than_max_seconds_are_read(tmp_path: Path) -> None:
    row = extract_file(write_tone(tmp_path / "a.wav", seconds=3), FMA, max_seconds=1)
    assert row.duration_s == pytest.approx(1)
    assert "1.0 s" in row.warning


def test_files_without_sound_have_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.mp3").write_text("no sound in here\n" * 50)
    for name, code in (("empty.mp3", "empty"), ("text.mp3", "not_audio"), ("none.mp3", "missing")):
        row = extract_file(tmp_path / name, FMA)
        assert row.code == code
        assert row.error.count(".") >= 1
        assert "\n" not in row.error
        assert not row.is_done
        assert np.isnan(row.columns).all()


def test_low_sample_rates_have_a_reason(tmp_path: Path) -> None:
    row = extract_file(write_tone(tmp_path / "a.wav", sample_rate=8000), FMA)
    assert row.code == "low_rate"
    assert row.is_done
    assert "8000 Hz, too low for chroma_cens, chroma_cqt, tonnetz" in row.error
    assert np.isnan(row.columns).sum() == 7 * (12 + 12 + 6)


def test_many_channels_at_a_high_sample_rate(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).standard_normal((19200, 8)) * 0.1
    path = tmp_path / "a.wav"
    soundfile.write(path, sound, 192_000)
    row = extract_file(path, FMA)
    assert row.code == ""
    assert np.isfinite(row.columns).all()


def test_an_unexpected_error_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IndexError("out of\nbounds")

    monkeypatch.setattr(extraction_module, "track_features", fail)
    row = extract_file(write_tone(tmp_path / "a.wav"), FMA)
    assert row.code == "unexpected"
    assert "IndexError: out of bounds" in row.error


@pytest.mark.slow
def test_whatever_fails_the_next_run_has_the_whole_table(tmp_path: Path) -> None:
    paths = tones(tmp_path, 2)
    rows = list(extract(paths, FMA))
    found = dict(zip(paths, rows, strict=True))

    def extract_all(folder: Path) -> None:
        list(extract_library(paths, folder / "t.parquet", FMA))

    def whole(folder: Path) -> None:
        for path in folder.glob("*.parquet"):
            assert same([read_features(path).track(i) for i in range(2)], rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction_module, "extract_file", lambda path, **_: found[path])
        each_fault(extract_all, whole, at=lambda n: n % 5 == 1)
    with small_files(4000), pytest.raises(DeepMusicError, match=r"t\.csv could not be written"):
        write_features(tmp_path / "t.csv", FeatureTable.from_rows(rows, FMA))
    assert not list(tmp_path.glob("*t*"))


@pytest.mark.slow
def test_several_processes_give_the_same_rows(tmp_path: Path) -> None:
    paths = [*tones(tmp_path, 4), str(tmp_path / "none.wav")]
    alone = list(extract([*paths, paths[0]], FMA))
    assert [row.path for row in alone] == paths
    assert same(list(extract(paths, FMA, workers=2)), alone)


def crashing(path: str, *, log: Path) -> TrackFeatures:
    """Crash the process, once for "3" and always for "5"; return a row for other paths."""
    crashes = len(list(log.glob(f"{path} *")))
    if path == "5" or (path == "3" and not crashes):
        (log / f"{path} {crashes}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return TrackFeatures(path)


@pytest.mark.slow
def test_crashes_cost_only_the_file_that_crashes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = partial(crashing, log=tmp_path)
    monkeypatch.setattr(extraction_module, "partial", lambda *_, **__: function)
    rows = {row.path: row for row in extract("01234567", FMA, workers=2)}
    assert {path: row.code for path, row in rows.items() if row.code} == {"5": "worker_died"}
    assert sorted(rows) == list("01234567")
    assert len(list(tmp_path.glob("3 *"))) == 1


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
def test_a_killed_dask_worker_costs_no_row(tmp_path: Path, dask_address: str) -> None:
    paths = [*tones(tmp_path, 20), str(tmp_path / "none.wav")]
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


@pytest.mark.slow
def test_a_missing_cluster_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("deepmusic.parallel._CONNECT_TIMEOUT_S", 0.3)
    with pytest.raises(
        DeepMusicError, match=r"No Dask scheduler answers at 'tcp://127\.0\.0\.1:9'"
    ):
        list(extract(["a.wav"], FMA, dask="tcp://127.0.0.1:9"))


@pytest.mark.slow
def test_compiled_code_is_cached_for_later_processes(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from deepmusic.features import RECIPES, extract_file\n"
        "from deepmusic.features.spectral_shape import _rolloff_bins\n"
        "row = extract_file(sys.argv[1], RECIPES['fma'])\n"
        "assert row.is_done\n"
        "print(sum(_rolloff_bins.stats.cache_hits.values()))\n"
        "assert not {'torch', 'librosa', 'pandas'} & set(sys.modules), 'too much is imported'\n"
    )
    command = [sys.executable, "-c", code, str(write_tone(tmp_path / "a.wav"))]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read in /proc")
def test_a_long_track_is_streamed_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    second = write_tone(tmp_path / "a.wav", seconds=1, sample_rate=44100)
    with soundfile.SoundFile(path, "w", samplerate=44100, channels=1) as file:
        sound, _ = soundfile.read(second, dtype="int16")
        for _ in range(400):
            file.write(sound)
    code = (
        "import sys\n"
        "from deepmusic.features import RECIPES, extract_file\n"
        "row = extract_file(sys.argv[1], RECIPES['fma'])\n"
        "assert not row.code and row.duration_s == 400, row.error\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print(next(line for line in lines if line.startswith('VmHWM')).split()[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    # its spectra alone would take 160 MB
    assert int(done.stdout) / 1024 < 320


@pytest.fixture
def music(tmp_path: Path) -> Path:
    for number in range(5):
        write_tone(tmp_path / "music" / f"{number}.wav", 200 + 50 * number)
    return tmp_path / "music"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose features are computed."""
    names: list[str] = []
    original = extraction_module.extract

    def recorded(paths: list[str], *args: object, **options: object) -> Iterator[TrackFeatures]:
        for row in original(paths, *args, **options):  # type: ignore[arg-type]
            names.append(Path(row.path).name)
            yield row

    monkeypatch.setattr(extraction_module, "extract", recorded)
    return names


def run(music: Path, output: Path, recipe: str = "fma") -> list[TrackFeatures]:
    return list(extract_library(find_audio([music]), output, RECIPES[recipe]))


@pytest.mark.slow
def test_a_table_has_one_row_per_entry_in_order(music: Path, tmp_path: Path) -> None:
    (music / "2.wav").write_text("no sound")
    entries = [str(music / "4.wav"), NotAudio("nowhere", "'nowhere' does not exist.", "missing")]
    entries += [str(music / "2.wav"), str(music / "0.wav"), str(music / "4.wav")]
    rows = list(extract_library(entries, tmp_path / "t.parquet", FMA))
    table = read_features(tmp_path / "t.parquet")
    assert [Path(path).name for path in table.paths] == ["4.wav", "nowhere", "2.wav", "0.wav"]
    assert table.facts["code"] == ["", "missing", "not_audio", ""]
    assert (table.recipe, table.version) == ("fma", FMA.version)
    by_path = {row.path: row for row in rows}
    for index, path in enumerate(table.paths):
        np.testing.assert_array_equal(table.columns[index], by_path[path].columns)
    assert not list(tmp_path.glob("*.partial*"))
    metadata = json.loads(pq.read_schema(tmp_path / "t.parquet").metadata[b"deepmusic"])
    assert metadata["recipe"] == "fma"


@pytest.mark.slow
def test_only_new_changed_and_failed_tracks_are_computed(
    music: Path, tmp_path: Path, computed: list[str]
) -> None:
    (music / "3.wav").write_text("no sound")
    output = tmp_path / "t.parquet"
    run(music, output)
    computed.clear()
    write_tone(music / "9.wav")
    write_tone(music / "1.wav", 999, seconds=0.7)
    (music / "0.wav").unlink()
    run(music, output)
    assert computed == ["1.wav", "3.wav", "9.wav"]
    names = [Path(path).name for path in read_features(output).paths]
    assert names == ["1.wav", "2.wav", "3.wav", "4.wav", "9.wav"]


@pytest.mark.slow
def test_moved_touched_and_linked_files_are_not_computed_again(
    music: Path, tmp_path: Path, computed: list[str]
) -> None:
    output = tmp_path / "t.parquet"
    os.link(music / "4.wav", music / "5.wav")
    before = {Path(row.path).name: row.columns for row in run(music, output)}
    assert computed == ["0.wav", "1.wav", "2.wav", "3.wav", "4.wav"]
    computed.clear()
    (music / "0.wav").rename(music / "moved.wav")
    os.utime(music / "1.wav", (1, 1))
    write_tone(music / "2.wav", 999)  # another sound of the same size
    after = {Path(row.path).name: row.columns for row in run(music, output)}
    assert computed == ["2.wav"]
    np.testing.assert_array_equal(after["moved.wav"], before["0.wav"])
    np.testing.assert_array_equal(after["1.wav"], before["1.wav"])
    assert not np.array_equal(after["2.wav"], before["2.wav"])
    run(music, output)
    assert computed == ["2.wav"]


@pytest.mark.slow
def test_an_interruption_loses_no_finished_row(
    music: Path, tmp_path: Path, computed: list[str]
) -> None:
    output = tmp_path / "t.parquet"
    rows = extract_library(find_audio([music]), output, FMA)
    first = [next(rows) for _ in range(3)]
    rows.close()  # type: ignore[attr-defined]
    assert not output.exists()
    computed.clear()
    again = run(music, output)
    assert computed == ["3.wav", "4.wav"]
    for row, other in zip(first, again, strict=False):
        np.testing.assert_array_equal(row.columns, other.columns)
    assert len(read_features(output)) == 5


@pytest.mark.slow
def test_another_recipe_needs_another_table(music: Path, tmp_path: Path) -> None:
    output = tmp_path / "t.parquet"
    run(music, output)
    before = output.read_bytes()
    with pytest.raises(DataError, match="recipe 'fma', version 1, not of 'fma-corrected'"):
        run(music, output, "fma-corrected")
    assert output.read_bytes() == before
    Store(tmp_path / "u.parquet.partial", "features", {"recipe": "fma", "version": 1}).close()
    with pytest.raises(DataError, match=r"partial' was made with other settings \(recipe"):
        run(music, tmp_path / "u.parquet", "fma-librosa")


def test_other_files_are_not_overwritten(music: Path, tmp_path: Path) -> None:
    text = "Dear reader,\n" * 100
    for name, message in (
        ("letter.parquet", "not a table of the 518 features"),
        ("t.parquet.partial", "not a store of features"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=message):
            run(music, tmp_path / name.removesuffix(".partial"))
        assert (tmp_path / name).read_text() == text


@pytest.mark.slow
def test_a_name_that_is_not_utf_8_is_escaped(music: Path, tmp_path: Path) -> None:
    name = os.fsencode(music) + b"/caf\xe9.wav"
    try:
        os.rename(music / "0.wav", name)
    except OSError:
        pytest.skip("this file system has no such names")
    output = tmp_path / "t.parquet"
    run(music, output)
    assert any(path.endswith("caf\\xe9.wav") for path in read_features(output).paths)
    rows = run(music, output)
    assert any(row.path.endswith("caf\udce9.wav") for row in rows)


@pytest.mark.slow
def test_csv_has_the_same_values(music: Path, tmp_path: Path) -> None:
    run(music, tmp_path / "t.csv")
    run(music, tmp_path / "t.parquet")
    csv, parquet = (read_features(tmp_path / f"t.{end}") for end in ("csv", "parquet"))
    np.testing.assert_allclose(csv.columns, parquet.columns, rtol=1e-6)
    assert csv.facts == parquet.facts
