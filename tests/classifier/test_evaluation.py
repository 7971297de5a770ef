"""Calibration on scores whose truth is known by construction, and figures beside scikit-learn's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from deepmusic.classifier.evaluation import (
    calibration_error,
    coverage_curve,
    draw_confusion,
    fit_calibration,
    measure,
)
from deepmusic.classifier.verdict import Calibration
from deepmusic.errors import DeepMusicError, ShapeError

LETTERS = "abcdefgh"
scores = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 8), st.integers(2, 5)), elements=st.floats(-50, 0)
)


def random_tracks(tracks: int, genres: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities and labels that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(genres), size=tracks), rng.integers(genres, size=tracks)


@pytest.mark.slow
@pytest.mark.parametrize("inverse_temperature", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("genres", [2, 4])
def test_the_temperature_is_recovered(inverse_temperature: float, genres: int) -> None:
    rng = np.random.default_rng(genres)
    log_scores = rng.normal(size=(4000, genres)) / inverse_temperature * 1.5
    predicted = np.exp(log_scores * inverse_temperature)
    predicted /= predicted.sum(axis=1, keepdims=True)
    labels = (rng.random((4000, 1)) > predicted.cumsum(axis=1)).sum(axis=1)
    fitted = fit_calibration(log_scores, labels)
    assert fitted.inverse_temperature == pytest.approx(inverse_temperature, rel=0.1)
    assert fitted.tracks == 4000
    assert calibration_error(fitted.probabilities(log_scores), labels) < 0.03
    overconfident = Calibration(8 * inverse_temperature).probabilities(log_scores)
    assert calibration_error(overconfident, labels) > 0.1


@given(scores, st.floats(0.03, 30))
def test_probabilities_sum_to_one_in_the_order_of_the_scores(
    log_scores: NDArray[np.float64], inverse_temperature: float
) -> None:
    calibration = Calibration(inverse_temperature)
    predicted = calibration.probabilities(log_scores)
    np.testing.assert_allclose(predicted.sum(axis=-1), 1)
    assert np.isfinite(predicted).all()
    rises = np.diff(np.take_along_axis(predicted, np.argsort(log_scores, axis=1), axis=1), axis=1)
    assert (rises >= 0).all()
    np.testing.assert_allclose(calibration.probabilities(log_scores[0]), predicted[0])
    shifted = calibration.probabilities(log_scores + 7)
    np.testing.assert_allclose(shifted, predicted, rtol=1e-6, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(2, 4), st.integers(0, 1000))
def test_the_threshold_gains_the_most(tracks: int, genres: int, seed: int) -> None:
    shares, labels = random_tracks(tracks, genres, seed)
    fitted = fit_calibration(np.log(shares), labels)
    predicted = fitted.probabilities(np.log(shares))
    confidence = predicted.max(axis=1)
    is_correct = predicted.argmax(axis=1) == labels

    def gain(threshold: float) -> int:
        return int(np.where(is_correct, 1, -1)[confidence >= threshold].sum())

    # naming no genre at all, which gains nothing, is not among the candidates
    assert gain(fitted.threshold) == max(gain(t) for t in [0.0, *confidence])
    assert 0 <= fitted.threshold <= 1
    for threshold in [0.0, *confidence[confidence < fitted.threshold]]:
        assert gain(threshold) < gain(fitted.threshold) or fitted.threshold == 0


def test_without_errors_nothing_is_unsure() -> None:
    log_scores = np.log(np.array([[0.6, 0.4]] * 5 + [[0.3, 0.7]] * 5))
    fitted = fit_calibration(log_scores, np.array([0] * 5 + [1] * 5))
    assert fitted.threshold == 0
    assert fitted.inverse_temperature < 31


def test_the_threshold_lies_between_tracks() -> None:
    # the two least certain are wrong: they are worth leaving out
    first = np.array([0.95, 0.9, 0.85, 0.8, 0.6, 0.55])
    log_scores = np.log(np.stack([first, 1 - first], axis=1))
    fitted = fit_calibration(log_scores, np.array([0, 0, 0, 0, 1, 1]))
    confidence = fitted.probabilities(log_scores).max(axis=1)
    assert fitted.threshold == pytest.approx((confidence[4] + confidence[3]) / 2)


@given(st.integers(1, 60), st.integers(2, 5), st.integers(1, 15), st.integers(0, 100))
def test_the_calibration_error_equals_a_loop(
    tracks: int, genres: int, bins: int, seed: int
) -> None:
    predicted, labels = random_tracks(tracks, genres, seed)
    rows = sorted(
        (max(row), float(row.argmax() == label))
        for row, label in zip(predicted, labels, strict=True)
    )
    bins = min(bins, tracks)
    size, larger = divmod(tracks, bins)
    total, start = 0.0, 0
    for number in range(bins):
        part = rows[start : start + size + (number < larger)]
        start += len(part)
        total += abs(sum(confidence - correct for confidence, correct in part))
    assert calibration_error(predicted, labels, bins=bins) == pytest.approx(total / tracks)


@given(st.integers(1, 50), st.integers(0, 100))
def test_coverage_falls_as_the_threshold_rises(tracks: int, seed: int) -> None:
    predicted, labels = random_tracks(tracks, 3, seed)
    thresholds = (0.0, 0.3, 0.5, 0.7, 0.9, 1.1)
    curve = coverage_curve(predicted, labels, thresholds)
    assert [record["threshold"] for record in curve] == list(thresholds)
    assert (curve[0]["coverage"], curve[-1]["coverage"]) == (1, 0)
    for record in curve:
        named = predicted.max(axis=1) >= record["threshold"]
        assert record["coverage"] == pytest.approx(named.mean())
        assert ("accuracy" in record) == named.any()
        if named.any():
            correct = (predicted.argmax(axis=1) == labels)[named]
            assert record["accuracy"] == pytest.approx(correct.mean())


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(1, 80), st.integers(2, 8), st.integers(0, 1000))
def test_figures_equal_those_of_scikit_learn(tracks: int, genres: int, seed: int) -> None:
    shares, labels = random_tracks(tracks, genres, seed)
    figures = measure(shares, labels, LETTERS[:genres], threshold=0.5)
    predicted = shares.argmax(axis=1)
    present = sorted(set(labels.tolist()))  # macro-F1 and recall are over these
    options: dict[str, Any] = {"labels": present, "zero_division": 0}
    assert figures["tracks"] == tracks
    assert figures["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    macro_f1 = f1_score(labels, predicted, average="macro", **options)
    assert figures["macro_f1"] == pytest.approx(macro_f1)
    confusion = confusion_matrix(labels, predicted, labels=range(genres))
    assert figures["confusion"] == confusion.tolist()
    recalls = recall_score(labels, predicted, average=None, **options)
    by_genre = {LETTERS[g]: recall for g, recall in zip(present, recalls, strict=True)}
    assert figures["recall"] == pytest.approx(by_genre)
    assert figures["unsure"] == coverage_curve(shares, labels, (0.5,))[0]
    assert figures["coverage"][0]["coverage"] == 1
    assert json.loads(json.dumps(figures)) == figures


@pytest.mark.parametrize(
    ("function", "shape", "labels", "message"),
    [
        (fit_calibration, (3, 2), 2, "calibration needs"),
        (fit_calibration, (3,), 3, "calibration needs"),
        (fit_calibration, (0, 2), 0, "calibration needs"),
        (lambda *a: measure(*a, "ab", threshold=0), (3, 2), 2, "figures need"),
        (lambda *a: measure(*a, "ab", threshold=0), (2, 3), 2, "figures need"),
        (lambda *a: measure(*a, "ab", threshold=0), (0, 2), 0, "figures need"),
    ],
)
def test_wrong_shapes_are_named(
    function: Callable[..., Any], shape: tuple[int, ...], labels: int, message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        function(np.full(shape, 0.5), np.zeros(labels, int))


@pytest.mark.slow
def test_the_confusion_is_plotted_or_an_error_says_why(tmp_path: Path) -> None:
    predicted = np.eye(8)[np.arange(20) % 8]
    figures = measure(predicted, np.arange(20) % 7, LETTERS, threshold=0.0)
    draw_confusion(figures, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as plot:
        plot.verify()
        assert min(plot.size) > 300
    with pytest.raises(DeepMusicError, match=r"could not be written.*\.$"):
        draw_confusion(figures, tmp_path / "missing" / "confusion.png")
