"""The sizes of a classifier: refused when wrong, and the same after JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from deepmusic.audio import LogMelConfig
from deepmusic.capsules import ROUTING
from deepmusic.classifier.config import ROUTINGS, ClassifierConfig
from deepmusic.errors import CheckpointError

TWO = ("a", "b")

configs = st.builds(
    ClassifierConfig,
    genres=st.lists(st.text(max_size=8), min_size=2, max_size=20, unique=True).map(tuple),
    segment_frames=st.integers(96, 400),
    hop_frames=st.integers(1, 96),
    bands=st.sampled_from([16, 32, 64, 128]),
    routing=st.sampled_from(ROUTINGS),
    dropout=st.floats(0, 0.99),
    log_mel=st.builds(LogMelConfig, sample_rate=st.sampled_from([16000, 22050, 44100])),
    channels=st.just((1, 2, 3)),
)


@pytest.mark.slow
@settings(deadline=None)
@given(configs)
def test_a_config_returns_from_json(config: ClassifierConfig) -> None:
    assert ClassifierConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_networks_of_the_ensemble() -> None:
    config = ClassifierConfig(genres=TWO, networks=2, texture_networks=3)
    assert config.network_configs[:2] == (config, config)
    assert [network.position_types for network in config.network_configs] == [16, 16, 0, 0, 0]
    assert {network.texture_capsules for network in config.network_configs} == {32}
    assert ClassifierConfig(genres=TWO, networks=1, texture_networks=0).network_configs[1:] == ()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"genres": ("a",)}, "genres"),
        ({"genres": ("a", "b", "a")}, "genres"),
        ({"bands": 48}, "bands"),
        ({"segment_frames": 95, "hop_frames": 40}, "segments"),
        ({"hop_frames": 0}, "hop"),
        ({"hop_frames": 259}, "hop"),
        ({"position_types": 0, "texture_capsules": 0}, "capsules"),
        ({"position_types": -1}, "capsules"),
        ({"networks": 0}, "networks"),
        ({"texture_networks": -1}, "texture networks"),
        ({"texture_networks": 1, "texture_capsules": 0}, "texture networks"),
        ({"frame_step": 0}, "sizes"),
        ({"iterations": 0}, "iterations"),
        ({"channels": (4, 0, 4)}, "channels"),
        ({"routing": "telepathy"}, "dynamic, .*, none; got 'telepathy'"),
        ({"dropout": 1.0}, "^dropout"),
        ({"texture_dropout": -0.1}, "texture_dropout"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ClassifierConfig(**({"genres": TWO} | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"genres": ["one"]},
        {"genres": None},
        {"channels": [1, 2]},
        {"channels": 3},
        {"log_mel": {"sample_rate": 0}},
        {"log_mel": {"unknown": 1}},
        {"networks": "many"},
        {"from_the_future": 1},
    ],
)
def test_unknown_settings_are_refused(changes: dict[str, Any]) -> None:
    record = ClassifierConfig(genres=TWO).to_dict() | changes
    with pytest.raises(CheckpointError, match=r"configuration.*\.$"):
        ClassifierConfig.from_dict(record)


def test_the_routing_methods_are_those_with_a_bias() -> None:
    with_bias = {name for name, method in ROUTING.items() if "bias" in method.options}
    assert set(ROUTINGS) == {*with_bias, "none"}
