"""The estimators: scikit-learn's own checks, sound in every form, and what goes into pandas."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from test_ear_head import RATE, write_music

import deepmusic
from deepmusic import AudioError, CapsuleClassifier, EarFeatures, Verdict, verdict_frame
from deepmusic.classifier.ear import PatchDataset
from deepmusic.classifier.verdict import GenreProbability
from deepmusic.datasets import load_dataset

PAGE = Path(__file__).resolve().parents[2] / "docs" / "from-librosa-and-sklearn.md"
QUICK = {"heads": 1, "epochs": 8, "random_state": 0}


def features_of(seed: int = 0, tracks: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, genres and artists, whose rows differ by genre more than by artist."""
    random = np.random.default_rng(seed)
    labels = np.arange(tracks) % 3
    artists = 4 * labels + np.arange(tracks) // 3 % 4
    centres, voices = random.normal(size=(3, 20)), 0.3 * random.normal(size=(12, 20))
    rows = centres[labels] + voices[artists] + 0.5 * random.normal(size=(tracks, 20))
    return rows, np.array(["folk", "jazz", "rock"])[labels], artists


@pytest.mark.slow
@parametrize_with_checks([CapsuleClassifier(**QUICK)])
def test_the_classifier_is_as_scikit_learn_wants_it(estimator: object, check: object) -> None:
    check(estimator)


def test_the_transformer_is_checked_where_it_takes_no_matrix() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that checks with a matrix are left out
        check_estimator(EarFeatures())
    assert clone(EarFeatures(cache="x")).cache == "x"
    with pytest.raises(ValueError, match="list of paths or of pairs"):
        EarFeatures().transform(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="list of paths or of pairs"):
        EarFeatures().transform("song.mp3")


@pytest.mark.slow
def test_a_search_over_artists_on_rows_of_features() -> None:
    rows, genres, artists = features_of()
    search = GridSearchCV(
        CapsuleClassifier(**QUICK), {"routing": ["uniform", "none"]}, cv=GroupKFold(3)
    )
    search.fit(rows, genres, groups=artists)
    assert search.best_score_ > 0.8
    probabilities = search.predict_proba(rows)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert list(search.classes_) == ["folk", "jazz", "rock"]
    assert search.score(rows, genres) > 0.9


def test_faults_of_a_fit_are_one_sentence() -> None:
    rows, genres, _ = features_of()
    with pytest.raises(NotFittedError):
        CapsuleClassifier().predict(["missing.mp3"])
    with pytest.raises(ValueError, match="two or more classes"):
        CapsuleClassifier().fit(rows, np.zeros(len(rows), int))
    with pytest.raises(ValueError, match="routing is one of"):
        CapsuleClassifier(routing="x").fit(rows, genres)
    with pytest.raises(ValueError, match="NaN"):
        CapsuleClassifier().fit(np.full((3, 2), np.nan), [1, 2, 3])


@pytest.mark.slow
def test_sound_in_every_form_gives_the_same_rows(
    tmp_path: Path,
    stand_in_ear: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    music = load_dataset(write_music(tmp_path / "music", artists=2)).dataset
    paths = [music.file(track) for track in music.tracks]
    genres = [track.genre for track in music.tracks]
    model = CapsuleClassifier(**QUICK, cache=tmp_path / "kept").fit(paths, genres)
    rows = EarFeatures(cache=tmp_path / "kept").transform(paths)
    assert rows.shape == (8, 512)
    pairs = [soundfile.read(path) for path in paths[3:5]]
    stereo = [(np.stack([samples, samples]), rate) for samples, rate in pairs]
    for few in (np.array(list(map(str, paths[3:5]))), pairs, stereo):
        np.testing.assert_allclose(EarFeatures(n_jobs=2).transform(few), rows[3:5], atol=0.01)

    by_rows = CapsuleClassifier(**QUICK).fit(rows, genres)
    np.testing.assert_allclose(by_rows.predict_proba(pairs), model.predict_proba(pairs), atol=1e-4)
    assert model.score(pairs, genres[3:5]) == 1
    assert list(pickle.loads(pickle.dumps(model)).predict(paths)) == genres

    paths[0].rename(tmp_path / "renamed.wav")
    monkeypatch.setenv("DEEPMUSIC_CACHE", str(tmp_path / "no ear"))
    kept = EarFeatures(cache=tmp_path / "kept").set_output(transform="pandas")
    frame = kept.transform([tmp_path / "renamed.wav", *paths[1:]])  # nothing is heard again
    np.testing.assert_allclose(frame.to_numpy(), rows, atol=0.01)
    assert [frame.columns[0], frame.columns[511]] == ["mean_0", "spread_255"]


@pytest.mark.slow
def test_a_track_that_cannot_be_used_is_named(
    tmp_path: Path,
    stand_in_ear: Path,
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    for bad, code in (
        ((np.zeros(5 * RATE), RATE), "silent"),
        ((np.zeros(0), RATE), "empty"),
        ((np.full(RATE, np.nan), RATE), "not_finite"),
        (str(tmp_path / "gone.mp3"), "missing"),
    ):
        for cache in (None, tmp_path / "kept"):
            with pytest.raises(AudioError, match="Track 1 of X: ") as caught:
                EarFeatures(cache=cache).transform([(noise, RATE), bad])
            assert caught.value.code == code


@pytest.mark.slow
def test_classify_takes_sound_in_memory(sound_file: Path) -> None:
    samples, rate = soundfile.read(sound_file)
    by_file = deepmusic.load("classifier").classify(sound_file)
    by_array = deepmusic.load("classifier").classify((samples, rate), name="chords")
    assert by_array.path == "chords"
    assert by_array.confidence == pytest.approx(by_file.confidence, abs=1e-3)
    with pytest.raises(AudioError, match="silent"):
        deepmusic.classify((np.zeros(5 * rate), rate))


def test_verdicts_as_a_table() -> None:
    top = (GenreProbability("rock", 0.7), GenreProbability("pop", 0.3))
    verdicts = [
        Verdict("a.mp3", "rock", 0.7, top, 30.0, tags={"sad": 0.1}),
        Verdict("b.mp3", error="b.mp3 does not exist.", code="missing"),
    ]
    table = verdict_frame(verdicts)
    assert list(table.index) == ["a.mp3", "b.mp3"]
    assert table.loc["a.mp3", ["genre", "probability/rock", "tag/sad"]].tolist() == [
        "rock",
        0.7,
        0.1,
    ]
    assert table.loc["b.mp3", "code"] == "missing"
    assert table["probability/pop"].isna().tolist() == [False, True]
    assert list(verdict_frame([]).columns) == list(table.columns[:7])


def test_patches_for_torch(tmp_path: Path) -> None:
    music = load_dataset(write_music(tmp_path / "music", artists=1)).dataset
    patches = PatchDataset(music, patches=3)
    assert len(patches) == 4
    item, label = patches[3]
    assert item.shape == (3, 187, 96)
    assert music.genres[label] == "low"
    high, low = patches[0][0].mean(dim=(0, 1)), item.mean(dim=(0, 1))
    assert high[-10:].mean() > low[-10:].mean()


@pytest.mark.slow
def test_examples_of_the_page_run(
    tmp_path: Path,
    stand_in_ear: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_music(tmp_path / "music")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.S | re.M)
    names: dict[str, object] = {}
    exec("\n".join(examples), names)
    assert min(names["accuracies"]) > 0.6
    assert names["table"].shape[0] == 2
    assert names["rows"].shape == (2, 512)
