"""From a file to a verdict: streamed, from any source, in any thread; models that are refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings, strategies as st
from synthetic import RATE, chords, clicks, tiny_classifier, tiny_config

import deepmusic
from deepmusic.audio import log_mel, wrap
from deepmusic.classifier.exported import ensemble_graph
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.model import Ensemble
from deepmusic.classifier.verdict import Calibration, Verdict
from deepmusic.errors import AudioError, CheckpointError, DeepMusicError
from deepmusic.training import save_weights


def wav(sound: np.ndarray, sample_rate: int = RATE) -> io.BytesIO:
    file = io.BytesIO()
    soundfile.write(file, sound, sample_rate, format="WAV", subtype="FLOAT")
    file.seek(0)
    return file


def numbers(verdict: Verdict) -> list[float]:
    """All numbers of a verdict, genres in the order of their names."""
    top = sorted(verdict.top, key=lambda entry: entry.genre)
    return [
        *(entry.probability for entry in top),
        *(e.probability for s in verdict.segments for e in s.probabilities),
        *(length for s in verdict.segments for length in s.lengths),
    ]


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(samples=st.integers(2000, 45 * RATE))
def test_streamed_equals_whole(classifier: Classifier, samples: int) -> None:
    sound = np.tile(chords(1, 8.0), 6)[:samples] + np.tile(clicks(1, 9.0), 5)[:samples]
    streamed = classifier.classify(wav(sound))
    whole = wrap(log_mel(sound), classifier.config.segment_frames)
    expected = dict(
        zip(classifier.genres, classifier.predict_spectrogram(whole).tolist(), strict=True)
    )
    assert {e.genre: e.probability for e in streamed.top} == pytest.approx(expected, abs=1e-5)
    assert streamed.duration_s == pytest.approx(samples / RATE, abs=1e-3)


def test_a_verdict_is_complete(classifier: Classifier, sound_file: Path) -> None:
    assert classifier.classify(sound_file).segments == ()
    verdict = classifier.classify(sound_file, segments=True)
    assert verdict.path == str(sound_file)
    assert verdict.genre == verdict.top[0].genre
    assert verdict.confidence == verdict.top[0].probability
    assert {entry.genre for entry in verdict.top} == set(classifier.genres)
    assert sum(entry.probability for entry in verdict.top) == pytest.approx(1)
    shares = [entry.probability for entry in verdict.top]
    assert shares == sorted(shares, reverse=True)
    assert verdict.duration_s == pytest.approx(8.0)
    assert verdict.error is verdict.code is verdict.warning is None

    hop_s = 64 * 512 / RATE
    starts = [segment.start_s for segment in verdict.segments]
    assert starts[:3] == pytest.approx([0, hop_s, 2 * hop_s])
    assert starts == sorted(starts)
    assert verdict.segments[-1].end_s == pytest.approx(8.0, abs=0.03)
    for segment in verdict.segments:
        assert segment.end_s - segment.start_s == pytest.approx(128 * 512 / RATE, abs=0.03)
        assert [entry.genre for entry in segment.probabilities] == list(classifier.genres)
        assert sum(entry.probability for entry in segment.probabilities) == pytest.approx(1)
        assert all(0 <= length < 1 for length in segment.lengths)


def test_a_track_is_the_mean_of_its_segments() -> None:
    classifier = tiny_classifier()
    verdict = classifier.classify(wav(chords(2)), segments=True)
    inverse_temperature = classifier.calibration.inverse_temperature
    rows = np.log([[e.probability for e in s.probabilities] for s in verdict.segments])
    # log probabilities of segments are log scores over the temperature, up to a shift
    scores = rows.mean(axis=0)
    expected = np.exp(scores) / np.exp(scores).sum()
    top = {entry.genre: entry.probability for entry in verdict.top}
    assert [top[genre] for genre in classifier.genres] == pytest.approx(expected, abs=1e-6)
    assert inverse_temperature == 2.0
    assert len({tuple(row) for row in rows.tolist()}) > 1


def test_the_verdict_in_json(classifier: Classifier) -> None:
    verdict = classifier.classify(wav(chords(2)), name="a song", segments=True)
    assert list(verdict.to_dict()) == [
        "path", "genre", "confidence", "top", "duration_s", "bandwidth_hz", "error", "code",
        "warning",
    ]  # fmt: skip
    record = json.loads(json.dumps(verdict.to_dict(top=1, segments=True)))
    assert record["path"] == "a song"
    (first,) = record["top"]
    assert first["genre"] == verdict.genre
    assert first["probability"] == pytest.approx(verdict.confidence, abs=1e-4)
    assert 0 <= first["score"] <= 1
    assert len(record["segments"]) == len(verdict.segments)
    assert list(record["segments"][0]) == ["start_s", "end_s", "genre", "probabilities", "lengths"]
    stored = Verdict.from_dict(verdict.to_dict(segments=True))
    assert stored.to_dict(segments=True) == verdict.to_dict(segments=True)
    assert Verdict("x", error="Bad.").to_dict()["top"] == []


def test_a_track_below_the_threshold_is_unsure() -> None:
    classifier = tiny_classifier()
    sure = classifier.classify(wav(chords(2)))
    assert sure.confidence is not None
    for threshold in (sure.confidence, np.nextafter(sure.confidence, 2)):
        classifier.calibration = Calibration(inverse_temperature=2.0, threshold=threshold)
        verdict = classifier.classify(wav(chords(2)))
        assert verdict.is_unsure == (threshold > sure.confidence)
        assert verdict.genre == (None if verdict.is_unsure else sure.top[0].genre)
        assert (verdict.top, verdict.confidence) == (sure.top, sure.confidence)
    assert not Verdict("x", error="Bad.").is_unsure


@pytest.mark.parametrize("sample_rate", [8000, 11025, 48000, 192000])
def test_any_sample_rate(classifier: Classifier, sample_rate: int) -> None:
    verdict = classifier.classify(wav(chords(1, 4.0, sample_rate), sample_rate), segments=True)
    assert verdict.duration_s == pytest.approx(4.0, abs=0.01)
    assert np.isfinite(numbers(verdict)).all()
    if sample_rate >= 2 * RATE:  # the chord is far below either limit: it sounds the same
        theirs = classifier.classify(wav(chords(1, 4.0)))
        assert verdict.top[0].probability == pytest.approx(theirs.top[0].probability, abs=0.05)


@pytest.mark.parametrize("seconds", [0.03, 0.5, 2.9, 3.1])
def test_short_tracks(classifier: Classifier, seconds: float) -> None:
    verdict = classifier.classify(wav(chords(1, seconds)), segments=True)
    assert verdict.duration_s == pytest.approx(seconds, abs=1e-3)
    assert verdict.segments[-1].end_s == pytest.approx(seconds, abs=0.03)
    assert verdict.segments[0].start_s == 0
    assert np.isfinite(numbers(verdict)).all()


@pytest.mark.parametrize("level", [0.0, 1e-9])
def test_silence_has_no_genre(classifier: Classifier, level: float) -> None:
    with pytest.raises(AudioError, match=r"'night.wav' is silent.*\.$") as caught:
        classifier.classify(wav(np.full(5 * RATE, level, np.float32)), name="night.wav")
    assert caught.value.code == "silent"


@pytest.mark.parametrize("level", [0.0, 3e-4])
def test_silence_does_not_vote(classifier: Classifier, level: float) -> None:
    sound = chords(1, 12.0)
    gap = (level * np.random.default_rng(0).standard_normal(60 * RATE)).astype(np.float32)
    plain = numbers(classifier.classify(wav(sound)))
    for parts in ([sound, gap], [gap, sound], [gap, sound, gap]):
        verdict = classifier.classify(wav(np.concatenate(parts)), segments=True)
        assert numbers(replace(verdict, segments=())) == pytest.approx(plain, abs=0.02)
        assert sum(end_s - start_s for start_s, end_s in verdict.silences) == pytest.approx(
            60 * (len(parts) - 1), abs=0.5
        )
        for segment in verdict.segments:
            assert all(
                segment.end_s <= start_s or segment.start_s >= end_s
                for start_s, end_s in verdict.silences
            )
        record = json.loads(json.dumps(verdict.to_dict(segments=True)))
        again = np.array(Verdict.from_dict(record).silences)
        assert again == pytest.approx(np.array(verdict.silences), abs=1e-3)


@pytest.mark.data
def test_cases_that_sound_the_same_have_the_same_verdict(shared_data: Path) -> None:
    shipped = deepmusic.load("small", device="cpu")
    cases = shared_data / "cases" / "audio"
    plain = numbers(shipped.classify(cases / "music.wav"))
    inverted = shipped.classify(cases / "inverted.wav")
    assert numbers(inverted) == pytest.approx(plain, abs=1e-3)
    assert "cancel" in str(inverted.warning)
    padded = shipped.classify(cases / "music-then-silence.flac", segments=True)
    assert numbers(replace(padded, segments=())) == pytest.approx(plain, abs=0.02)
    assert np.array(padded.silences) == pytest.approx(np.array([(8, 38)]), abs=0.3)


def test_a_track_with_one_loud_moment_is_classified(classifier: Classifier) -> None:
    sound = np.zeros(60 * RATE, np.float32)
    sound[-RATE:] = chords(1, 1.0)
    assert classifier.classify(wav(sound)).genre is not None


def test_paths_and_file_objects(classifier: Classifier, sound_file: Path) -> None:
    by_path = classifier.classify(sound_file)
    assert numbers(classifier.classify(str(sound_file))) == numbers(by_path)
    with open(sound_file, "rb") as file:
        by_file = classifier.classify(file)
        assert not file.closed
    assert by_file.path == "sound"
    assert numbers(by_file) == numbers(by_path)
    assert classifier.classify(sound_file, name="x").path == "x"
    with pytest.raises(AudioError) as caught:
        classifier.classify(sound_file.with_name("missing.mp3"))
    assert caught.value.code == "missing"


def test_max_seconds_limits_what_is_analysed(classifier: Classifier, sound_file: Path) -> None:
    verdict = classifier.classify(sound_file, max_seconds=4.0)
    assert verdict.duration_s == pytest.approx(4.0)
    assert verdict.warning is not None
    first = classifier.classify(wav(chords(3)[: 4 * RATE]))
    assert numbers(verdict) == pytest.approx(numbers(first), abs=1e-4)


@pytest.mark.slow
def test_threads_get_the_same_verdicts(classifier: Classifier) -> None:
    sounds = [make(seed, 3.0 + seed) for seed in range(6) for make in (chords, clicks)]
    alone = [numbers(classifier.classify(wav(sound), segments=True)) for sound in sounds]
    with ThreadPoolExecutor(6) as executor:
        together = list(
            executor.map(
                lambda sound: numbers(classifier.classify(wav(sound), segments=True)), sounds * 2
            )
        )
    assert together == alone * 2


@pytest.mark.slow
def test_a_long_track_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
from synthetic import tiny_classifier
import torch
torch.set_num_threads(1)
classifier = tiny_classifier()
def peak_mb():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
first = classifier.classify(sys.argv[2])
before = peak_mb()
verdict = classifier.classify(sys.argv[3], segments=True)
print(json.dumps([before, peak_mb(), verdict.duration_s, len(verdict.segments)]))
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc, which this system lacks")
    minute = np.tile(chords(1, 6.0), 10)
    paths = []
    for minutes in (2, 20):
        paths.append(str(tmp_path / f"{minutes}.flac"))
        soundfile.write(paths[-1], np.tile(minute, minutes), RATE)
    command = [sys.executable, "-c", code, str(Path(__file__).parent), *paths]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after, duration_s, segments = json.loads(done.stdout)
    assert duration_s == pytest.approx(1200, abs=0.1)
    assert segments > 700
    assert after - before < 50  # the samples alone would be 106 MB
    assert after < 800


def test_a_classifier_returns_from_its_file(
    classifier: Classifier, sound_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run" / "model.safetensors"
    classifier.save(path)
    for source in (path, str(path), path.parent):
        again = Classifier.load(source, device="cpu")
        assert again.digest == classifier.digest
        assert again.config == classifier.config
        assert again.calibration == classifier.calibration
        assert again.card == classifier.card
    # under onnxruntime now, in PyTorch before
    ours, theirs = (one.classify(sound_file, segments=True) for one in (again, classifier))
    assert numbers(ours) == pytest.approx(numbers(theirs), abs=1e-4)
    assert [e.genre for e in ours.top] == [e.genre for e in theirs.top]
    state = classifier.ensemble.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in again.ensemble.state_dict().items())
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.slow
def test_a_loaded_classifier_runs_without_torch(
    classifier: Classifier, sound_file: Path, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "model.safetensors")
    code = """
import sys
from deepmusic.classifier import Classifier
classifier = Classifier.load(sys.argv[1], device="cpu")
classifier.classify(sys.argv[2])
heavy = {"torch", "scipy", "sklearn", "matplotlib", "av"} & set(sys.modules)
assert not heavy, heavy
print(classifier.digest)
classifier.ensemble
assert "torch" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(sound_file)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == classifier.digest


def test_a_file_without_a_graph_runs_in_torch(classifier: Classifier, tmp_path: Path) -> None:
    metadata = {
        "kind": "genre classifier",
        "config": classifier.config.to_dict(),
        "calibration": classifier.calibration.to_dict(),
    }
    save_weights(tmp_path / "model.safetensors", classifier.ensemble.state_dict(), metadata)
    loaded = Classifier.load(tmp_path, device="cpu")
    assert not loaded.is_picklable
    segments = log_mel(chords(3))[None, :, :128]
    for ours, theirs in zip(
        loaded.predict_segments(segments), classifier.predict_segments(segments), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert loaded.digest == classifier.digest
    loaded.save(tmp_path / "model.safetensors")
    again = Classifier.load(tmp_path, device="cpu")
    assert again.is_picklable
    assert again.digest == classifier.digest


@pytest.mark.parametrize("changes", [{"genres": ("a", "b", "c")}, {"pose_dim": 5}])
def test_a_graph_of_another_model_is_refused(
    classifier: Classifier, tmp_path: Path, changes: dict[str, Any]
) -> None:
    other = ensemble_graph(replace(classifier.config, **changes))
    metadata = {
        "kind": "genre classifier",
        "config": classifier.config.to_dict(),
        "calibration": classifier.calibration.to_dict(),
    }
    weights = {"graph": torch.frombuffer(bytearray(other), dtype=torch.uint8)}
    weights |= classifier.ensemble.state_dict()
    save_weights(tmp_path / "model.safetensors", weights, metadata)
    with pytest.raises(
        CheckpointError, match=r"model.safetensors: the weights do not fit[^\n]*\.$"
    ):
        Classifier.load(tmp_path, device="cpu")


@pytest.mark.slow
def test_the_digest_depends_on_everything_that_determines_a_verdict() -> None:
    classifiers = [tiny_classifier() for _ in range(4)]
    assert len({classifier.digest for classifier in classifiers}) == 1
    classifiers[1].calibration = Calibration(inverse_temperature=2.0, threshold=0.5)
    next(classifiers[2].ensemble.parameters()).data.view(-1)[0] += 1e-6
    next(classifiers[3].ensemble.buffers()).view(-1)[0] += 1e-3
    classifiers.append(tiny_classifier(genres=("a", "b")))
    assert len({classifier.digest for classifier in classifiers}) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "composer"}, "not a genre classifier"),
        ({"kind": None}, "not a genre classifier"),
        ({"calibration": {"warmth": 1}}, "another model"),
        ({"calibration": None}, "another model"),
        ({"config": {}}, "configuration"),
        ({"genres": ["one"]}, "configuration"),
        ({"networks": 1}, "another model"),
        ({"networks": 3}, "another model"),
        ({"texture_networks": 1}, "another model"),
        # arrays of another size
        ({"genres": ["a", "b", "c"]}, "another model"),
        ({"bands": 64}, "another model"),
    ],
    ids=str,
)
def test_files_of_another_model_are_refused_in_one_sentence(
    classifier: Classifier, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config = classifier.config.to_dict()
    calibration = classifier.calibration.to_dict()
    metadata = {"kind": "genre classifier", "config": config, "calibration": calibration}
    if changes.keys() <= config.keys():
        metadata["config"] = config | changes
    else:
        metadata |= changes
    path = tmp_path / "model.safetensors"
    save_weights(path, classifier.ensemble.state_dict(), metadata)
    with pytest.raises(CheckpointError, match=message + r"[^\n]*\.$"):
        Classifier.load(path, device="cpu")


def test_a_missing_device_is_named() -> None:
    for name in ("cuda:77", "abacus"):
        with pytest.raises(DeepMusicError, match=name):
            Classifier(Ensemble(tiny_config()), Calibration(), device=name)
