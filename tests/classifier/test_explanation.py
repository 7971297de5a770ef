"""Explanations against slow loops over the votes and finite differences."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from synthetic import RATE, chords, clicks, tiny_classifier
from torch import Tensor

from deepmusic.audio import log_mel
from deepmusic.classifier.explanation import Explanation, draw_explanation, explain
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.model import CapsuleClassifier, Views, views
from deepmusic.errors import AudioError, DeepMusicError

ONE_SEGMENT = 127 * 512 / RATE  # seconds that give the 128 frames of one segment


def write(path: Path, samples: Any, sample_rate: int = RATE) -> Path:
    soundfile.write(path, samples, sample_rate, subtype="FLOAT")
    return path


@pytest.fixture
def one_segment(tmp_path: Path) -> Path:
    return write(tmp_path / "one.wav", clicks(1, ONE_SEGMENT))


def inputs_of(classifier: Classifier, samples: Any) -> Views:
    segment = torch.from_numpy(log_mel(samples)).unsqueeze(0)
    return views(segment, classifier.config)


def networks(classifier: Classifier) -> list[CapsuleClassifier]:
    return [m for m in classifier.ensemble.networks if isinstance(m, CapsuleClassifier)]


def pose_length(network: CapsuleClassifier, inputs: Views, genre: int) -> Tensor:
    """Length of the genre's pose before the squash, by undoing the squash."""
    length = network(inputs).lengths[0, genre]
    return torch.sqrt(length / (1 - length))


@pytest.mark.parametrize("texture_networks", [0, 2])
def test_parts_add_up_to_the_votes(texture_networks: int, one_segment: Path) -> None:
    classifier = tiny_classifier(texture_networks=texture_networks)
    explanation = explain(classifier, one_segment, genre="clicks")
    inputs = inputs_of(classifier, soundfile.read(one_segment, dtype="float32")[0])
    with torch.no_grad():
        votes = [network(inputs).votes[0, :, 1].sum().item() for network in networks(classifier)]
    assert sum(explanation.parts.values()) == pytest.approx(np.mean(votes), abs=1e-5)
    assert list(explanation.parts) == ["positions", "timbre", "correlation", "movement", "offset"]


def test_votes_over_time_equal_a_slow_loop(classifier: Classifier, one_segment: Path) -> None:
    explanation = explain(classifier, one_segment)
    inputs = inputs_of(classifier, soundfile.read(one_segment, dtype="float32")[0])
    config = classifier.config
    expected = np.zeros((2, 128))
    for network in networks(classifier):
        output = network(inputs)
        if not network.config.position_types:
            continue
        for genre in range(2):
            for frame in range(128):
                position = min(frame // config.frame_step // 16, 128 // config.frame_step // 16 - 1)
                for kind in range(config.position_types):
                    vote = output.votes[0, position * config.position_types + kind, genre].item()
                    expected[genre, frame] += vote / len(networks(classifier))
    assert explanation.votes is not None
    np.testing.assert_allclose(explanation.votes, expected, atol=1e-6)


def test_evidence_is_the_gradient_of_the_pose(tmp_path: Path) -> None:
    # one pass of routing: couplings do not follow the change, as in the explanation
    classifier = tiny_classifier(iterations=1, networks=1, texture_networks=0)
    samples = clicks(2, ONE_SEGMENT)
    # noise between the clicks: at equal values pooling has no gradient to compare with
    samples += np.random.default_rng(0).normal(0, 0.003, len(samples)).astype(np.float32)
    explanation = explain(classifier, write(tmp_path / "s.wav", samples), genre="chords")
    (network,) = networks(classifier)
    network.double()
    inputs = Views(*(view.double() for view in inputs_of(classifier, samples)))
    assert explanation.evidence is not None
    step = classifier.config.frame_step
    gradients, expected = [], []
    with torch.no_grad():
        for bands in (slice(0, 8), slice(8, 20), slice(20, 32)):
            for start in range(0, 128 // step, 16):
                where = slice(start, start + 16)
                change = torch.zeros_like(inputs.image)
                deviation = inputs.image - network.image_mean.unsqueeze(1)
                change[:, bands, where] = 1e-4 * deviation[:, bands, where]
                up = pose_length(network, inputs._replace(image=inputs.image + change), 0)
                down = pose_length(network, inputs._replace(image=inputs.image - change), 0)
                expected.append((up - down).item() / 2e-4)
                frames = slice(start * step, (start + 16) * step)
                gradients.append(explanation.evidence[bands, frames].sum())
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(gradients, expected, rtol=0.01, atol=2e-5)


def test_the_split_of_the_textures_is_exact(tmp_path: Path) -> None:
    classifier = tiny_classifier(networks=1, texture_networks=0, position_types=0)
    (network,) = networks(classifier)
    assert network.reader is not None
    samples = chords(4, ONE_SEGMENT)
    path = write(tmp_path / "s.wav", samples)
    assert explain(classifier, path).parts["offset"] == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        network.reader.bias += 0.3
        inputs = inputs_of(classifier, samples)
        deviation = (inputs.texture - network.texture_mean) / network.texture_std
        # the explanation stays just inside the network's cut at 8 deviations; so does this
        deviation = deviation.clamp(-7.999, 7.999)
        inputs = Views(inputs.image, network.texture_mean + deviation * network.texture_std)
        output = network(inputs)
        # what the rectifier cuts off says nothing, nor does its bias
        bias = network.reader.bias * (network.reader(deviation)[0] > 0)
        direction = F.normalize(output.poses[0, 0], dim=0)
        offset = sum(
            output.coupling[0, child, 0]
            * (bias[4 * child : 4 * child + 4] @ weight[:, 0] @ direction)
            for child, weight in enumerate(network.genres.texture_weight)  # type: ignore[arg-type]
        )
    parts = explain(classifier, path, genre="chords").parts
    assert parts["offset"] == pytest.approx(float(offset), abs=1e-5)
    assert abs(float(offset)) > 1e-3


def test_a_long_track_is_covered_and_a_short_one_cut_to_its_length(
    classifier: Classifier, tmp_path: Path
) -> None:
    long = explain(classifier, write(tmp_path / "long.wav", chords(1, 9.3)))
    short = explain(classifier, write(tmp_path / "short.wav", clicks(1, 0.4)))
    for explanation, seconds in ((long, 9.3), (short, 0.4)):
        frames = 1 + int(seconds * RATE) // 512
        for values, rows in (
            (explanation.image, 32),
            (explanation.evidence, 32),
            (explanation.votes, 2),
        ):
            assert values is not None
            assert values.shape == (rows, frames)
            assert np.isfinite(values).all()
        assert explanation.votes is not None
        assert np.abs(explanation.votes).min() > 0
    assert explain(classifier, tmp_path / "long.wav", max_seconds=4).seconds == pytest.approx(
        4, abs=0.05
    )


def test_the_top_genre_is_explained_unless_another_is_named(
    classifier: Classifier, sound_file: Path, tmp_path: Path
) -> None:
    top = [entry.genre for entry in classifier.classify(sound_file).top]
    assert explain(classifier, sound_file).genre == top[0]
    assert explain(classifier, sound_file, genre=top[1]).genre == top[1]
    with pytest.raises(DeepMusicError, match="does not know the genre 'polka'; it knows chords"):
        explain(classifier, sound_file, genre="polka")
    with pytest.raises(DeepMusicError, match="plain CNN"):
        explain(tiny_classifier(routing="none"), sound_file)
    with pytest.raises(AudioError, match="silent"):
        explain(classifier, write(tmp_path / "silence.wav", np.zeros(RATE, np.float32)))
    with pytest.raises(AudioError):
        explain(classifier, tmp_path / "missing.wav")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"texture_networks": 0},
        {"texture_networks": 2},
        {"position_types": 0},
        {"texture_capsules": 0, "texture_networks": 0},
    ],
    ids=str,
)
def test_every_kind_of_model_can_be_plotted(
    changes: dict[str, int], sound_file: Path, tmp_path: Path
) -> None:
    explanation = explain(tiny_classifier(**changes), sound_file)
    assert (explanation.evidence is None) == (explanation.votes is None)
    assert (explanation.evidence is None) == ("positions" not in explanation.parts)
    path = tmp_path / "picture.png"
    draw_explanation(explanation, path, "a $title$ \x1b[1m with \udcff and ü " + "long " * 40)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1210, 880)
    assert [entry.name for entry in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.slow
def test_the_plot_shows_the_evidence(tmp_path: Path) -> None:
    from matplotlib.image import imread

    def drawn(sign: float) -> Any:
        evidence = np.zeros((32, 300), np.float32)
        evidence[20:28, 200:260] = sign
        explanation = Explanation(
            genre="_a",
            genres=("_a", "$b$"),
            image=np.full((32, 300), -60, np.float32),
            evidence=evidence,
            votes=np.ones((2, 300), np.float32),
            parts={"positions": sign},
            log_mel=tiny_classifier().config.log_mel,
        )
        draw_explanation(explanation, tmp_path / "p.png")
        return imread(tmp_path / "p.png")[:440, :, :3]  # the upper half

    redness = drawn(1)[..., 0] - drawn(1)[..., 2]
    blueness = drawn(-1)[..., 2] - drawn(-1)[..., 0]
    for strength in (redness, blueness):
        rows, columns = np.nonzero(strength > 0.3)
        assert columns.min() > strength.shape[1] / 2  # late
        assert rows.max() < 300  # and high
