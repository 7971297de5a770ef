"""Probabilities that mean what they say, on scores whose truth is known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from deepmusic.classifier.calibration import (
    Calibration,
    calibration_error,
    coverage_curve,
    fit_calibration,
    probabilities,
)
from deepmusic.errors import ShapeError

scores = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 8), st.integers(2, 5)), elements=st.floats(-50, 0)
)


def drawn(
    tracks: int, genres: int, inverse_temperature: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Log scores, and labels drawn from their softmax at the inverse_temperature."""
    rng = np.random.default_rng(seed)
    log_scores = rng.normal(size=(tracks, genres)) / inverse_temperature * 1.5
    predicted = np.exp(log_scores * inverse_temperature)
    predicted /= predicted.sum(axis=1, keepdims=True)
    labels = (rng.random((tracks, 1)) > predicted.cumsum(axis=1)).sum(axis=1)
    return log_scores, labels


@pytest.mark.parametrize("inverse_temperature", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("genres", [2, 4])
def test_the_temperature_is_recovered(inverse_temperature: float, genres: int) -> None:
    log_scores, labels = drawn(4000, genres, inverse_temperature, seed=genres)
    found = fit_calibration(log_scores, labels)
    assert found.inverse_temperature == pytest.approx(inverse_temperature, rel=0.1)
    assert found.tracks == 4000
    predicted = probabilities(log_scores, found)
    assert calibration_error(predicted, labels) < 0.03
    assert (
        calibration_error(probabilities(log_scores, Calibration(8 * inverse_temperature)), labels)
        > 0.1
    )


@given(scores, st.floats(0.03, 30))
def test_order_and_sum(log_scores: NDArray[np.float64], inverse_temperature: float) -> None:
    predicted = probabilities(log_scores, Calibration(inverse_temperature=inverse_temperature))
    np.testing.assert_allclose(predicted.sum(axis=-1), 1)
    assert np.isfinite(predicted).all()
    for row, shares in zip(log_scores, predicted, strict=True):
        for i in range(len(row)):
            for j in range(len(row)):
                if row[i] > row[j]:
                    assert shares[i] >= shares[j]
    np.testing.assert_allclose(
        probabilities(log_scores[0], Calibration(inverse_temperature=inverse_temperature)),
        predicted[0],
    )
    shifted = probabilities(log_scores + 7, Calibration(inverse_temperature=inverse_temperature))
    np.testing.assert_allclose(shifted, predicted, rtol=1e-6, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(2, 4), st.integers(0, 1000))
def test_threshold_gains_the_most(tracks: int, genres: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_scores = np.log(rng.dirichlet(np.ones(genres), size=tracks))
    labels = rng.integers(genres, size=tracks)
    found = fit_calibration(log_scores, labels)
    predicted = probabilities(log_scores, found)

    def gain(threshold: float) -> int:
        total = 0
        for row, label in zip(predicted, labels, strict=True):
            if row.max() >= threshold:
                total += 1 if row.argmax() == label else -1
        return total

    everywhere = [gain(t) for t in [0.0, *np.linspace(0, 1.01, 2000), *predicted.max(axis=1)]]
    # saying nothing at all, which gains nothing, is not among what is chosen from
    assert gain(found.threshold) >= max(gain(t) for t in predicted.max(axis=1))
    assert gain(found.threshold) >= gain(0.0)
    assert gain(found.threshold) == max(everywhere) or max(everywhere) == 0
    assert 0 <= found.threshold <= 1
    lower = [c for c in predicted.max(axis=1) if c < found.threshold]
    for threshold in [0.0, *lower]:
        assert gain(threshold) < gain(found.threshold) or found.threshold == 0


def test_without_errors_nothing_is_unsure() -> None:
    log_scores = np.log(np.array([[0.6, 0.4]] * 5 + [[0.3, 0.7]] * 5))
    found = fit_calibration(log_scores, np.array([0] * 5 + [1] * 5))
    assert found.threshold == 0
    assert np.isfinite(found.inverse_temperature)
    assert found.inverse_temperature < 31


def test_the_threshold_lies_between_tracks() -> None:
    # the two least certain are wrong: they are worth leaving out
    first = np.array([0.95, 0.9, 0.85, 0.8, 0.6, 0.55])
    log_scores = np.log(np.stack([first, 1 - first], axis=1))
    found = fit_calibration(log_scores, np.array([0, 0, 0, 0, 1, 1]))
    confidence = probabilities(log_scores, found).max(axis=1)
    assert confidence[4] < found.threshold < confidence[3]
    assert found.threshold == pytest.approx((confidence[4] + confidence[3]) / 2)


def slow_error(predicted: NDArray[np.float64], labels: NDArray[np.int64], bins: int) -> float:
    tracks = sorted(
        ((max(row), list(row).index(max(row)) == label) for row, label in zip(predicted, labels)),  # noqa: B905
        key=lambda track: track[0],
    )
    bins = min(bins, len(tracks))
    size, larger = divmod(len(tracks), bins)
    total, start = 0.0, 0
    for number in range(bins):
        part = tracks[start : start + size + (number < larger)]
        start += len(part)
        certainty = sum(confidence for confidence, _ in part)
        total += abs(certainty - sum(right for _, right in part))
    return total / len(tracks)


@given(st.integers(1, 60), st.integers(2, 5), st.integers(1, 15), st.integers(0, 100))
def test_error_equals_a_slow_loop(tracks: int, genres: int, bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = rng.dirichlet(np.ones(genres), size=tracks)
    labels = rng.integers(genres, size=tracks)
    assert calibration_error(predicted, labels, bins=bins) == pytest.approx(
        slow_error(predicted, labels, bins)
    )


@given(st.integers(1, 50), st.integers(0, 100))
def test_coverage_falls_as_the_threshold_rises(tracks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, labels = rng.dirichlet(np.ones(3), size=tracks), rng.integers(3, size=tracks)
    thresholds = (0.0, 0.3, 0.5, 0.7, 0.9, 1.1)
    curve = coverage_curve(predicted, labels, thresholds)
    assert [record["threshold"] for record in curve] == list(thresholds)
    coverage = [record["coverage"] for record in curve]
    assert coverage[0] == 1
    assert coverage[-1] == 0
    assert coverage == sorted(coverage, reverse=True)
    assert "accuracy" not in curve[-1]
    for record in curve[:-1]:
        claimed = [i for i in range(tracks) if predicted[i].max() >= record["threshold"]]
        assert record["coverage"] == pytest.approx(len(claimed) / tracks)
        if claimed:
            right = sum(predicted[i].argmax() == labels[i] for i in claimed)
            assert record["accuracy"] == pytest.approx(right / len(claimed))


@pytest.mark.parametrize(
    ("scores_shape", "labels_shape"), [((3, 2), (2,)), ((3,), (3,)), ((0, 2), (0,))]
)
def test_wrong_shapes_are_named(
    scores_shape: tuple[int, ...], labels_shape: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match="calibration needs"):
        fit_calibration(np.zeros(scores_shape), np.zeros(labels_shape, int))
