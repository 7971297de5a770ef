"""Marks and occlusion on synthetic models whose answer is known."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "classifier"))
from synthetic import tiny_classifier, tiny_config, tiny_ensemble, write_folder

from deepmusic.classifier.data import SpectrogramStore
from deepmusic.classifier.model import ClassifierNetwork, views
from deepmusic.datasets import scan_folder
from deepmusic.studies.data import StudyData
from deepmusic.studies.occlusion import (
    TrackOcclusion,
    example_tracks,
    genre_poses,
    hide,
    marked_cells,
    occlude,
    occlude_tracks,
    reconstruct,
    shifted,
    summarize,
)
from deepmusic.studies.report_pictures import draw_map
from deepmusic.training.checkpoint import best_path
from deepmusic.training.weights import save_weights

BANDS, MELS, FRAMES = 16, 32, 200
REGION = (slice(4, 9), slice(60, 100))  # bands and frames that alone decide


def made_score(log_mel: NDArray[np.float32]) -> float:
    """A model of one rectangle of the spectrogram: its level above the floor."""
    loud = log_mel.reshape(BANDS, 2, FRAMES).mean(axis=1)[REGION].mean()
    return float(np.clip((loud + 80) / 80, 0, 1))


def made_spectrogram(seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    image = rng.normal(-60, 4, (MELS, FRAMES))
    image[8:18, 60:100] += 50
    return image.astype(np.float32)


def true_evidence() -> NDArray[np.float32]:
    evidence = np.zeros((BANDS, FRAMES), np.float32)
    evidence[REGION] = 1
    return evidence


def test_true_marks_lower_the_score_more_than_shifted_ones() -> None:
    for seed in range(5):
        whole, marked, random = occlude(
            made_score, made_spectrogram(seed), true_evidence(), share=0.0625, seed=seed
        )
        assert whole == pytest.approx(70 / 80, abs=0.05)
        # its bands fall to their mean over the track, a fifth of which is as loud
        assert marked == pytest.approx(0.8 * 50 / 80, abs=0.08)
        assert random < 0.5 * marked


@pytest.mark.parametrize("marks", ["true", "random", "opposite"])
def test_marks_are_judged_by_their_effect(marks: str) -> None:
    rng = np.random.default_rng(0)
    tracks = []
    for seed in range(40 if marks == "random" else 12):
        evidence = {"true": true_evidence(), "opposite": -true_evidence()}.get(marks)
        if evidence is None:
            evidence = rng.normal(size=(BANDS, FRAMES)).astype(np.float32)
        _, marked, random = occlude(made_score, made_spectrogram(seed), evidence, seed=seed)
        tracks.append(TrackOcclusion(f"{seed}", "a", "a", 0.9, marked, random, 0))
    summary = summarize(tracks, {f"{seed}": seed for seed in range(40)})
    if marks == "random":
        assert summary.difference.low < 0 < summary.difference.high
        assert abs(summary.difference.mean) < 0.02
    else:
        assert (summary.difference.low > 0) == (marks == "true")
        assert (summary.difference.high < 0) == (marks == "opposite")
        assert (summary.share > 0.5) == (summary.marked > summary.random) == (marks == "true")


@settings(max_examples=40, deadline=None)
@given(
    bands=st.integers(2, 20),
    frames=st.integers(2, 60),
    share=st.floats(0.01, 0.6),
    seed=st.integers(0, 99),
)
def test_shifted_patterns_are_as_large_as_the_marked_one(
    bands: int, frames: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = marked_cells(rng.normal(size=(bands, frames)), share)
    assert mask.sum() == max(1, round(share * bands * frames))
    assert shifted(mask, rng).sum() == mask.sum()


def test_hiding_fills_with_the_mean_of_the_mel_and_touches_nothing_else() -> None:
    spectrogram = made_spectrogram(1)
    mask = np.zeros((BANDS, FRAMES), bool)
    mask[REGION] = True
    hidden = hide(spectrogram, mask)
    cells = np.repeat(mask, 2, axis=0)
    np.testing.assert_array_equal(hidden[~cells], spectrogram[~cells])
    means = np.repeat(spectrogram.mean(axis=1, keepdims=True), FRAMES, axis=1)
    np.testing.assert_allclose(hidden[cells], means[cells], rtol=1e-6)


def test_pictures_show_the_surest_of_each_genre_and_the_surest_error() -> None:
    found = [
        TrackOcclusion("a", "jazz", "jazz", 0.6, 0, 0, 0),
        TrackOcclusion("b", "jazz", "jazz", 0.9, 0, 0, 0),
        TrackOcclusion("c", "rock", "rock", 0.5, 0, 0, 0),
        TrackOcclusion("d", "rock", "jazz", 0.7, 0, 0, 0),
        TrackOcclusion("e", "jazz", "rock", 0.8, 0, 0, 0),
    ]
    assert [one.path for one in example_tracks(found)] == ["b", "c", "e"]
    assert [one.path for one in example_tracks(found, most=2)] == ["b", "e"]
    assert example_tracks([]) == []


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    root = write_folder(tmp_path_factory.mktemp("explained") / "music", artists=2, each=1)
    dataset = scan_folder(root)
    store = SpectrogramStore(root.parent / "kept", tiny_config())
    assert store.fill(dataset, workers=1) == []
    return StudyData(dataset, None, lambda index: store.load(dataset.tracks[index]))


@pytest.mark.slow
def test_tracks_are_explained_by_the_fold_that_was_not_trained_on_them(data: StudyData) -> None:
    one, two = tiny_classifier(), tiny_classifier(networks=1)
    seen: list[tuple[int, int]] = []
    found, problems = occlude_tracks(
        data, [(one, (0, 2)), (two, (1, 3))], on_progress=lambda *args: seen.append(args)
    )
    assert problems == []
    assert [(e.path, e.fold) for e in found] == [
        (data.dataset.tracks[index].path, fold) for index, fold in ((0, 0), (2, 0), (1, 1), (3, 1))
    ]
    assert data.spectrograms is not None
    for explained, index in zip(found, (0, 2, 1, 3), strict=True):
        classifier = (one, two)[explained.fold]
        rows = classifier.predict_spectrogram(np.asarray(data.spectrograms(index), np.float32))
        assert explained.genre == classifier.genres[int(rows.argmax())]
        assert explained.probability == pytest.approx(rows.max(), abs=1e-6)
    assert seen[-1] == (4, 4)
    few, _ = occlude_tracks(data, [(one, (0, 1, 2, 3))], max_tracks=2)
    assert len(few) == 2


@pytest.mark.slow
def test_a_reconstruction_is_of_the_segment_with_the_longest_capsule(
    data: StudyData, tmp_path: Path
) -> None:
    config = tiny_config()
    network = tiny_ensemble(config).networks[0].eval()
    assert isinstance(network, ClassifierNetwork)
    assert data.spectrograms is not None
    log_mel = data.spectrograms(0)
    assert reconstruct(tmp_path, log_mel, config.genres[1]) is None
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    save_weights(best_path(tmp_path / "networks" / "0"), network.state_dict(), {})
    found = reconstruct(tmp_path, log_mel, config.genres[1])
    assert found is not None
    starts = range(0, log_mel.shape[1] - 127, 64)
    segments = np.stack([log_mel[:, start : start + 128] for start in starts]).astype(np.float32)
    with torch.inference_mode():
        inputs = views(torch.from_numpy(segments), config)
        longest = int(network(inputs).lengths[:, 1].argmax())
    rate = config.log_mel.frames_per_second
    assert (found.start_s, found.end_s) == pytest.approx(
        (starts[longest] / rate, (starts[longest] + 128) / rate)
    )
    assert found.original.shape == found.rebuilt.shape == (32, 16)
    np.testing.assert_allclose(found.original, network.sketch(inputs.image)[longest], atol=1e-5)
    poses = genre_poses(tiny_classifier(), data, range(3))
    assert poses.shape == (3, len(config.genres) * 8)
    assert draw_map(poses, data.labels[:3], np.array([True, False, True]), data.genres)[1] <= 1


def test_a_track_that_cannot_be_explained_is_one_sentence(data: StudyData, tmp_path: Path) -> None:
    lost = replace(data, dataset=replace(data.dataset, root=tmp_path))
    found, problems = occlude_tracks(lost, [(tiny_classifier(), (0,))])
    assert found == []
    assert problems[0].startswith("'chords/0.wav' is not explained: ")
    assert problems[0].endswith(".")
