"""Feature sets by name: which columns they are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from miniature_fma import ECHONEST, FEATURE_COLUMNS, FEATURE_SIZES

from deepmusic.errors import RequestError, ShapeError
from deepmusic.features import COLUMNS
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
    "mfcc/contrast/centroid": 196, "all": 518,
}  # fmt: skip
# chroma in a combination is chroma_cens
SHORT = {
    "contrast": "spectral_contrast", "chroma": "chroma_cens", "centroid": "spectral_centroid",
}  # fmt: skip


def test_sizes_are_those_of_the_published_table() -> None:
    assert {name: FEATURE_SETS[name].size for name in PUBLISHED_SIZES} == PUBLISHED_SIZES
    assert len(FEATURE_SETS) == 18


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_columns_are_those_that_the_name_says(name: str) -> None:
    families = (
        set(FEATURE_SIZES) if name == "all" else {SHORT.get(part, part) for part in name.split("/")}
    )
    wanted = [index for index, column in enumerate(FEATURE_COLUMNS) if column[0] in families]
    assert list(FEATURE_SETS[name].columns) == wanted
    assert set(FEATURE_SETS[name].parts) == families


def test_families_part_the_table() -> None:
    columns = [index for family in FEATURE_SIZES for index in FEATURE_SETS[family].columns]
    assert sorted(columns) == list(range(518))


def test_echonest_groups_follow_the_table() -> None:
    columns = [(group, name) for group, names in ECHONEST.items() for name in names]
    assert {group: len(names) for group, names in ECHONEST.items()} == ECHONEST_GROUPS
    for chosen in ECHONEST_SETS.values():
        wanted = [index for index, (group, _) in enumerate(columns) if group in chosen.parts]
        assert list(chosen.columns) == wanted
    assert [ECHONEST_SETS[f"echonest_{name}"].size for name in ("audio", "temporal", "all")] == [
        8,
        224,
        237,
    ]
    assert [name for name, one in ECHONEST_SETS.items() if not one.is_numeric] == [
        "echonest_metadata"
    ]


def test_families_may_be_joined() -> None:
    joined = feature_set("zcr+mfcc")
    assert joined.columns == tuple(
        index for index, column in enumerate(COLUMNS) if column[0] in ("mfcc", "zcr")
    )


def test_select_takes_whole_tables_only() -> None:
    table = np.arange(3 * 518).reshape(3, 518)
    found = FEATURE_SETS["zcr"].select(table)
    np.testing.assert_array_equal(found, table[:, -7:])
    with pytest.raises(ShapeError, match=r"takes a table \(tracks, 518\); got \(3, 249\)"):
        FEATURE_SETS["zcr"].select(table[:, :249])
    with pytest.raises(ShapeError, match="249"):
        ECHONEST_SETS["echonest_audio"].select(table)


@pytest.mark.parametrize("name", ["mfc", "mfcc+mfcc", "mfcc+nothing", "", "mfcc/zcr"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match=r"There is no feature set .*mfcc"):
        feature_set(name)
