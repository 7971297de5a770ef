"""What the capsules hear: marks and occlusion on made models whose answer is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "classifier"))
from synthetic import tiny_classifier, tiny_config, write_folder

from deepmusic.classifier.spectrograms import SpectrogramStore
from deepmusic.datasets import scan_folder
from deepmusic.studies.data import StudyData
from deepmusic.studies.explanations import (
    Explained,
    draw_rebuilt,
    explain_tracks,
    genre_poses,
    hide,
    marked_cells,
    moved,
    occlude,
    rebuild,
    shown_tracks,
    summarise,
)

BANDS, MELS, FRAMES = 16, 32, 200
PLACE = (slice(4, 9), slice(60, 100))  # bands and frames that alone decide


def made_score(log_mel: NDArray[np.float32]) -> float:
    """A model that hears nothing but one rectangle: how loud it is above the floor."""
    loud = log_mel.reshape(BANDS, 2, FRAMES).mean(axis=1)[PLACE].mean()
    return float(np.clip((loud + 80) / 80, 0, 1))


def made_spectrogram(seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    image = rng.normal(-60, 4, (MELS, FRAMES))
    image[8:18, 60:100] += 50
    return image.astype(np.float32)


def true_evidence() -> NDArray[np.float32]:
    evidence = np.zeros((BANDS, FRAMES), np.float32)
    evidence[PLACE] = 1
    return evidence


def test_marks_that_are_true_lower_the_score_more_than_other_places() -> None:
    for seed in range(5):
        whole, marked, random = occlude(
            made_score, made_spectrogram(seed), true_evidence(), share=0.0625, seed=seed
        )
        assert whole == pytest.approx(70 / 80, abs=0.05)
        # its mels fall to their mean over the track: a fifth of it is as loud
        assert marked == pytest.approx(0.8 * 50 / 80, abs=0.08)
        assert random < 0.5 * marked


def test_marks_that_are_false_lower_it_no_more() -> None:
    rng = np.random.default_rng(0)
    found = []
    for seed in range(40):
        evidence = rng.normal(size=(BANDS, FRAMES)).astype(np.float32)
        _, marked, random = occlude(made_score, made_spectrogram(seed), evidence, seed=seed)
        found.append(Explained(f"{seed}", "a", "a", 0.9, marked, random, 0))
    summary = summarise(found, {f"{seed}": seed for seed in range(40)})
    assert summary.difference.low < 0 < summary.difference.high
    assert abs(summary.difference.mean) < 0.02


def test_marks_against_the_truth_are_found_out() -> None:
    found = []
    for seed in range(12):
        _, marked, random = occlude(made_score, made_spectrogram(seed), -true_evidence(), seed=seed)
        found.append(Explained(f"{seed}", "a", "a", 0.9, marked, random, 0))
    summary = summarise(found, {f"{seed}": seed for seed in range(12)})
    assert summary.marked < summary.random
    assert summary.difference.high < 0
    assert summary.share < 0.2


@settings(max_examples=40, deadline=None)
@given(
    bands=st.integers(2, 20),
    frames=st.integers(2, 60),
    share=st.floats(0.01, 0.6),
    seed=st.integers(0, 99),
)
def test_other_places_are_as_large_as_the_marked_one(
    bands: int, frames: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = marked_cells(rng.normal(size=(bands, frames)), share)
    assert mask.sum() == max(1, round(share * bands * frames))
    assert moved(mask, rng).sum() == mask.sum()


def test_hiding_fills_with_the_mean_of_the_mel_and_touches_nothing_else() -> None:
    spectrogram = made_spectrogram(1)
    mask = np.zeros((BANDS, FRAMES), bool)
    mask[PLACE] = True
    hidden = hide(spectrogram, mask)
    cells = np.repeat(mask, 2, axis=0)
    np.testing.assert_array_equal(hidden[~cells], spectrogram[~cells])
    means = np.repeat(spectrogram.mean(axis=1, keepdims=True), FRAMES, axis=1)
    np.testing.assert_allclose(hidden[cells], means[cells], rtol=1e-6)


def test_pictures_show_the_surest_of_each_genre_and_the_surest_error() -> None:
    found = [
        Explained("a", "jazz", "jazz", 0.6, 0, 0, 0),
        Explained("b", "jazz", "jazz", 0.9, 0, 0, 0),
        Explained("c", "rock", "rock", 0.5, 0, 0, 0),
        Explained("d", "rock", "jazz", 0.7, 0, 0, 0),
        Explained("e", "jazz", "rock", 0.8, 0, 0, 0),
    ]
    assert [one.path for one in shown_tracks(found)] == ["b", "c", "e"]
    assert [one.path for one in shown_tracks(found, most=2)] == ["b", "e"]
    assert shown_tracks([]) == []


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    root = write_folder(tmp_path_factory.mktemp("explained") / "music", artists=2, each=1)
    dataset = scan_folder(root)
    store = SpectrogramStore(root.parent / "kept", tiny_config())
    assert store.fill(dataset, workers=1) == []
    return StudyData(dataset, None, lambda place: store.load(dataset.tracks[place]))


def test_tracks_are_explained_by_the_fold_that_has_not_learned_from_them(heard: StudyData) -> None:
    one, two = tiny_classifier(), tiny_classifier(networks=1)
    seen: list[tuple[int, int]] = []
    found, problems = explain_tracks(
        heard, [(one, (0, 2)), (two, (1, 3))], on_progress=lambda *args: seen.append(args)
    )
    assert problems == []
    assert [(e.path, e.fold) for e in found] == [
        (heard.dataset.tracks[place].path, fold) for place, fold in ((0, 0), (2, 0), (1, 1), (3, 1))
    ]
    assert heard.spectrograms is not None
    for explained, place in zip(found, (0, 2, 1, 3), strict=True):
        classifier = (one, two)[explained.fold]
        rows = classifier.predict_spectrogram(np.asarray(heard.spectrograms(place), np.float32))
        assert explained.genre == classifier.genres[int(rows.argmax())]
        assert explained.probability == pytest.approx(rows.max(), abs=1e-6)
    assert seen[-1] == (4, 4)
    few, _ = explain_tracks(heard, [(one, (0, 1, 2, 3))], most=2)
    assert len(few) == 2


def test_a_model_without_place_capsules_is_said_to_have_none(heard: StudyData) -> None:
    found, problems = explain_tracks(heard, [(tiny_classifier(position_types=0), (0,))])
    assert found == []
    assert "no place capsules" in problems[0]


def test_poses_are_those_of_the_genre_capsules(heard: StudyData) -> None:
    classifier = tiny_classifier()
    poses = genre_poses(classifier, heard, (0, 3))
    assert poses.shape == (2, 2 * 8)
    assert np.isfinite(poses).all()
    assert not np.allclose(poses[0], poses[1])


def test_a_trained_network_rebuilds_and_one_without_decoder_does_not(
    heard: StudyData, tmp_path: Path
) -> None:
    import torch

    from deepmusic.classifier.model import CapsuleClassifier, views
    from deepmusic.training import best_path, save_weights

    assert heard.spectrograms is not None
    config = tiny_config()
    model = CapsuleClassifier(config).eval()
    path = best_path(tmp_path / "networks" / "0")
    path.parent.mkdir(parents=True)
    save_weights(path, model.state_dict(), {})
    import json

    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    whole = np.asarray(heard.spectrograms(0), np.float32)
    found = rebuild(tmp_path, whole, "clicks")
    assert found is not None
    assert found.heard.shape == found.rebuilt.shape == (config.bands, 16)
    start = round(found.start_s * config.log_mel.frames_per_second)
    segment = torch.from_numpy(whole[None, :, start : start + config.segment_frames])
    with torch.no_grad():
        said = model(views(segment, config), rebuild=torch.tensor([1]))
    assert said.rebuilt is not None
    np.testing.assert_allclose(found.rebuilt, said.rebuilt[0].numpy(), atol=1e-5)
    draw_rebuilt(found, tmp_path / "rebuilt.png", "a $ sign")
    assert (tmp_path / "rebuilt.png").read_bytes().startswith(b"\x89PNG")
    assert rebuild(tmp_path, whole, "polka") is None
    bare = tiny_config(reconstruction=0.0)
    (tmp_path / "config.json").write_text(json.dumps(bare.to_dict()))
    assert rebuild(tmp_path, whole, "clicks") is None
    assert rebuild(tmp_path / "nowhere", whole, "clicks") is None
