"""A small classifier and a recording, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from ear_stand_in import no_ear as no_ear, stand_in_ear as stand_in_ear
from synthetic import RATE, chords, tiny_classifier

from deepmusic.classifier.inference import Classifier


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    """Two untrained networks: what they say is arbitrary, and always the same."""
    return tiny_classifier()


@pytest.fixture(scope="session")
def sound_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of chords."""
    path = tmp_path_factory.mktemp("sound") / "chords.wav"
    soundfile.write(path, chords(3), RATE, subtype="FLOAT")
    return path
