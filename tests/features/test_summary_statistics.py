"""Summary statistics, compared with SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from deepmusic.features import STATISTICS, summary_statistics


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.integers(1, 4), st.integers(1, 40)),
        # multiples of 0.01: no power of them underflows in single precision
        elements=st.integers(-100_000, 100_000).map(lambda number: number / 100),
    )
)
def test_statistics_equal_those_of_scipy(rows: np.ndarray) -> None:
    result = dict(zip(STATISTICS, summary_statistics(rows), strict=True))
    exact = rows.astype(np.float64)
    scale = np.abs(exact).max() + 1e-30
    np.testing.assert_array_equal(result["max"], exact.max(axis=1))
    np.testing.assert_array_equal(result["min"], exact.min(axis=1))
    np.testing.assert_allclose(result["mean"], exact.mean(axis=1), atol=1e-5 * scale)
    np.testing.assert_allclose(result["median"], np.median(exact, axis=1), atol=1e-6 * scale)
    np.testing.assert_allclose(result["std"], exact.std(axis=1), atol=1e-5 * scale)
    # where the variation is larger than the rounding
    varies = exact.std(axis=1) > 1e-2 * scale
    for name, function in (("skew", stats.skew), ("kurtosis", stats.kurtosis)):
        if varies.any():
            expected = function(exact[varies], axis=1)
            np.testing.assert_allclose(result[name][varies], expected, rtol=1e-3, atol=1e-3)
    assert np.isfinite(list(result.values())).all()


@pytest.mark.parametrize("value", [0.0, 1.0, -1131.371, 1e-20, 3e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_values(value: float, dtype: type) -> None:
    result = dict(
        zip(STATISTICS, summary_statistics(np.full((1, 87), value, dtype))[:, 0], strict=True)
    )
    assert (result["skew"], result["kurtosis"], result["std"]) == (0, -3, 0)
    assert result["mean"] == result["median"] == result["min"] == result["max"] == dtype(value)
