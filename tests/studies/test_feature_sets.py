"""Feature sets by name: which columns they are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from miniature_fma import ECHONEST, FEATURE_COLUMNS, FEATURE_SIZES

from deepmusic.errors import RequestError, ShapeError
from deepmusic.studies.feature_sets import (
    ECHONEST_GROUPS,
    ECHONEST_SETS,
    FEATURE_SETS,
    feature_set,
)

# the dimensions that FMA's paper and notebook print
PUBLISHED_SIZES = {
    "chroma_stft": 84, "chroma_cqt": 84, "chroma_cens": 84, "tonnetz": 42, "mfcc": 140,
    "spectral_contrast": 49, "spectral_centroid": 7, "spectral_bandwidth": 7,
    "spectral_rolloff": 7, "rmse": 7, "zcr": 7, "mfcc/contrast": 189,
    "mfcc/contrast/centroid": 196, "all": 518, "echonest_audio": 8, "echonest_social": 5,
    "echonest_temporal": 224, "echonest_audio/social": 13, "echonest_all": 237,
}  # fmt: skip
# chroma in a combination is chroma_cens
SHORT = {
    "contrast": "spectral_contrast", "chroma": "chroma_cens", "centroid": "spectral_centroid",
}  # fmt: skip


def test_sizes_are_those_of_the_published_table() -> None:
    assert {n: len(feature_set(n).columns) for n in PUBLISHED_SIZES} == PUBLISHED_SIZES
    assert len(FEATURE_SETS) == 18


@pytest.mark.parametrize("name", [*FEATURE_SETS, "zcr+mfcc"])
def test_columns_are_those_of_the_named_families(name: str) -> None:
    parts = {SHORT.get(part, part) for part in name.replace("+", "/").split("/")}
    families = set(FEATURE_SIZES) if name == "all" else parts
    wanted = [index for index, column in enumerate(FEATURE_COLUMNS) if column[0] in families]
    assert list(feature_set(name).columns) == wanted


def test_echonest_groups_follow_the_table() -> None:
    columns = [(group, name) for group, names in ECHONEST.items() for name in names]
    assert {group: len(names) for group, names in ECHONEST.items()} == ECHONEST_GROUPS
    for chosen in ECHONEST_SETS.values():
        wanted = [index for index, (group, _) in enumerate(columns) if group in chosen.parts]
        assert list(chosen.columns) == wanted


def test_select_takes_whole_tables_only() -> None:
    table = np.arange(3 * 518).reshape(3, 518)
    np.testing.assert_array_equal(FEATURE_SETS["zcr"].select(table), table[:, -7:])
    with pytest.raises(ShapeError, match=r"takes a table \(tracks, 518\); got \(3, 249\)"):
        FEATURE_SETS["zcr"].select(table[:, :249])


@pytest.mark.parametrize("name", ["mfc", "mfcc+mfcc", "mfcc+nothing", "", "mfcc/zcr"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match=r"There is no feature set .*mfcc"):
        feature_set(name)
