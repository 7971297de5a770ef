"""Requests: what they accept, and one sentence about what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from deepmusic.composer.request import BARS, Request, read_metre, read_numbers
from deepmusic.errors import RequestError
from deepmusic.music import TimeSignature

FOLK = {"style": {"folk": 1}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": {}}, "Name one style"),
        ({"style": {"folk": 0}}, "weights above 0"),
        ({"style": {"folk": float("nan")}}, "weights above 0"),
        ({"bars": 3}, "The number of bars is 4 to 256; got 3"),
        ({"bars": 257}, "4 to 256"),
        ({"tempo": 19.9}, "The tempo is 20 to 300"),
        ({"tempo": float("nan")}, "20 to 300"),
        ({"temperature": 0.05}, "The temperature is 0.1 to 3"),
        ({"candidates": 0}, "The number of candidates is 1 to 64"),
        ({"seed": -1}, "The seed is 0 to"),
        ({"seed": 2**63}, "The seed is 0 to"),
        ({"top_p": 1.01}, "above 0 and at most 1"),
        ({"top_p": float("nan")}, "above 0 and at most 1"),
        ({"key": "H major"}, "'H major' is not a key"),
        ({"metre": "4/3"}, "not a time signature"),
        ({"metre": "4/4/4"}, "not a time signature"),
        ({"primer": "a.mid", "harmonize": "b.mid"}, "exclude each other"),
        ({"infill": (1, 2), "harmonize": "b.mid"}, "name the piece as the primer"),
        ({"primer": "a.mid", "infill": (0, 2)}, "FROM:TO"),
        ({"primer": "a.mid", "infill": (3, 2)}, "got 3:2"),
        ({"primer": "a.mid", "infill": (1, 2), "bars": 8}, "omit bars"),
        ({"primer": "a.mid", "key": "C major"}, "omit key"),
        ({"primer": "a.mid", "metre": "3/4"}, "omit metre"),
        ({"harmonize": "a.mid", "metre": "3/4"}, "omit metre"),
    ],
)
def test_what_is_impossible_is_refused_in_one_sentence(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        Request(**{**FOLK, **options})
    assert message in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_weights_keys_and_paths_are_normalised() -> None:
    requested = Request(
        style={"folk": 3, "pop": 1}, key="f#m", pose={"0": 1}, pose_from=Path("a") / "b.mid"
    )
    assert requested.style == {"folk": 0.75, "pop": 0.25}
    assert requested.key == "F# minor"
    assert requested.pose == {"0": 1.0}
    assert requested.pose_from == str(Path("a") / "b.mid")
    assert requested.given is None
    for name in ("primer", "harmonize"):
        assert Request(**FOLK, **{name: Path("m.mid")}).given == "m.mid"


REQUESTS = st.fixed_dictionaries(
    {"style": st.dictionaries(st.text(min_size=1), st.floats(0.01, 10), min_size=1, max_size=3)},
    optional={
        "bars": st.integers(*BARS),
        "seed": st.integers(0, 2**63 - 1),
        "tempo": st.floats(20, 300),
        "temperature": st.floats(0.1, 3),
        "top_p": st.floats(0.01, 1),
        "candidates": st.integers(1, 64),
        "pose_from": st.text(min_size=1),
        "pose": st.dictionaries(st.text(min_size=1), st.floats(-3, 3), max_size=3),
        "has_end": st.booleans(),
        "allow_copies": st.booleans(),
    },
)
FILES = st.one_of(
    st.fixed_dictionaries({}, optional={"key": st.sampled_from(["C", "F# minor", "bbm"])}),
    st.fixed_dictionaries({"metre": st.sampled_from(["3/4", "6/8"])}),
    st.fixed_dictionaries({"primer": st.text(min_size=1)}),
    st.fixed_dictionaries({"harmonize": st.text(min_size=1)}),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(values=REQUESTS, files=FILES)
def test_a_request_comes_back_from_its_json(values: dict[str, Any], files: dict[str, Any]) -> None:
    requested = Request(**values, **files)
    again = Request.from_dict(json.loads(json.dumps(requested.to_dict())))
    # weights that were scaled may differ in the last bit when they are scaled again
    assert again.style == pytest.approx(requested.style)
    assert list(again.style) == list(requested.style)
    assert {**again.to_dict(), "style": 0} == {**requested.to_dict(), "style": 0}


@pytest.mark.parametrize(
    "changed",
    [
        {"colour": "red"},
        {"bars": "sixteen"},
        {"bars": 2},
        {"primer": "a.mid", "infill": [1]},
        {"primer": "a.mid", "infill": ["x", "y"]},
        {"style": "folk"},
        {"pose": {"density": "high"}},
        {"key": 7},
        {"seed": "7"},
        {"primer": 5},
    ],
    ids=str,
)
def test_an_invalid_dictionary_is_refused(changed: dict[str, Any]) -> None:
    values = {**Request(**FOLK).to_dict(), **changed}
    with pytest.raises(RequestError) as caught:
        Request.from_dict(values)
    assert str(caught.value).endswith(".")


# -------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("folk", {"folk": 1.0}),
        ("folk=0.7,pop=0.3", {"folk": 0.7, "pop": 0.3}),
        (" folk = 2 , pop", {"folk": 2.0, "pop": 1.0}),
        ("density=-1.5", {"density": -1.5}),
        ("a b=1e-3", {"a b": 0.001}),
    ],
)
def test_numbers_are_read(text: str, expected: dict[str, float]) -> None:
    assert read_numbers(text, what="styles", default=1.0) == expected
    assert list(read_numbers(text, what="styles", default=1.0)) == list(expected)


@pytest.mark.parametrize("text", ["", "folk,", "folk=x", "=1", "folk=1,folk=2", "a=1=2", "a=nan"])
def test_text_that_is_not_pairs_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="cannot be read as styles: give NAME=NUMBER"):
        read_numbers(text, what="styles", default=1.0)


def test_a_name_without_a_number_needs_a_default() -> None:
    with pytest.raises(RequestError, match="moves of the pose"):
        read_numbers("density", what="moves of the pose")


@pytest.mark.parametrize(("text", "over", "under"), [("4/4", 4, 4), (" 6/8 ", 6, 8), ("3/2", 3, 2)])
def test_metres_are_read(text: str, over: int, under: int) -> None:
    assert read_metre(text) == TimeSignature(0, over, under)
