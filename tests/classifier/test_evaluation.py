"""Figures beside scikit-learn's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from deepmusic.classifier.evaluation import draw_confusion, measure
from deepmusic.errors import DeepMusicError, ShapeError

LETTERS = "abcdefgh"


@settings(deadline=None)
@given(st.integers(1, 80), st.integers(2, 8), st.integers(0, 1000))
def test_figures_are_scikit_learns(tracks: int, genres: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = rng.dirichlet(np.ones(genres), size=tracks)
    labels = rng.integers(genres, size=tracks)
    figures = measure(predicted, labels, LETTERS[:genres], threshold=0.5)
    labels_predicted = predicted.argmax(axis=1)
    there = sorted(set(labels.tolist()))
    assert figures["tracks"] == tracks
    assert figures["accuracy"] == pytest.approx(accuracy_score(labels, labels_predicted))
    # genres without a track to ask for count neither way
    assert figures["macro_f1"] == pytest.approx(
        f1_score(labels, labels_predicted, labels=there, average="macro", zero_division=0)
    )
    assert (
        figures["confusion"]
        == confusion_matrix(labels, labels_predicted, labels=range(genres)).tolist()
    )
    recalls = recall_score(labels, labels_predicted, labels=there, average=None, zero_division=0)
    assert figures["recall"] == pytest.approx(
        {LETTERS[g]: r for g, r in zip(there, recalls, strict=True)}
    )
    claimed = predicted.max(axis=1) >= 0.5
    assert figures["unsure"]["threshold"] == 0.5
    assert figures["unsure"]["coverage"] == pytest.approx(claimed.mean())
    if claimed.any():
        assert figures["unsure"]["accuracy"] == pytest.approx(
            accuracy_score(labels[claimed], labels_predicted[claimed])
        )
    assert figures["coverage"][0]["coverage"] == 1
    assert json.loads(json.dumps(figures)) == figures


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (0, 2)])
def test_wrong_shapes_are_named(shape: tuple[int, int]) -> None:
    labels = np.zeros(0 if not shape[0] else 2, int)
    with pytest.raises(ShapeError, match="figures need"):
        measure(np.full(shape, 0.5), labels, "ab", threshold=0.0)


@pytest.mark.parametrize("genres", [2, 8])
def test_picture(tmp_path: Path, genres: int) -> None:
    predicted = np.eye(genres)[np.arange(20) % genres]
    figures = measure(predicted, np.arange(20) % (genres - 1), LETTERS[:genres], threshold=0.0)
    path = tmp_path / "confusion.png"
    draw_confusion(figures, path)
    with Image.open(path) as picture:
        picture.verify()
        assert min(picture.size) > 300
    assert [p.name for p in tmp_path.iterdir()] == ["confusion.png"]


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    figures = measure(np.eye(2), np.arange(2), "ab", threshold=0.0)
    with pytest.raises(DeepMusicError, match=r"could not be written.*\.$"):
        draw_confusion(figures, tmp_path / "missing" / "confusion.png")
