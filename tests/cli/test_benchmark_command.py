"""``deepmusic benchmark`` on tiny data sets in the files of the real ones."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat
from training_runs import Call, refusal

from deepmusic.datasets import load_symbolic
from deepmusic.datasets.symbolic import SYMBOLIC
from deepmusic.studies import likelihood
from deepmusic.studies.piano_rolls import KEY_MODELS

COUNTS = {"train": 6, "valid": 2, "test": 2}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes over the data, and not dozens: figures are not the point."""
    settings = {n: chosen._replace(epochs=2) for n, chosen in likelihood._SETTINGS.items()}
    monkeypatch.setattr(likelihood, "_SETTINGS", settings)


def file_of(name: str, root: Path) -> Path:
    path = root / SYMBOLIC[name][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_rolls(name: str, root: Path) -> None:
    """Piano rolls of three keys that sound together and wander."""
    random = np.random.default_rng(0)

    def roll() -> NDArray[np.uint8]:
        made = np.zeros((24, 88), np.uint8)
        lowest = 40 + np.cumsum(random.integers(-1, 2, 24))
        for third in (0, 4, 7):
            made[np.arange(24), lowest + third] = 1
        return made

    content = {}
    for side, count in COUNTS.items():
        content[f"{side}data"] = np.empty((1, count), object)
        for number in range(count):
            content[f"{side}data"][0, number] = roll()
    savemat(file_of(name, root), content)


def write_chorales(root: Path) -> None:
    random = np.random.default_rng(0)

    def voices() -> list[list[int]]:
        steps = np.array([70, 62, 55, 48]) + random.integers(-1, 2, (16, 4)).cumsum(axis=0)
        return [[int(pitch) for pitch in step] for step in np.repeat(steps, 2, axis=0)]

    content = {side: [voices() for _ in range(count)] for side, count in COUNTS.items()}
    with gzip.open(file_of("chorales", root), "wt", encoding="utf-8") as file:
        json.dump(content, file)


def table(output: str) -> tuple[str, dict[str, float]]:
    """The heading, and the figures in their order."""
    heading, *lines = output.splitlines()
    rows = [line.rsplit(maxsplit=1) for line in lines]
    return heading, {name.strip(): float(value) for name, value in rows}


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_models_stand_beside_published_ones_in_order_of_likelihood(
    tmp_path: Path, call: Call
) -> None:
    name = "musedata"
    write_rolls(name, tmp_path)
    done = call("benchmark", name, "--data", tmp_path)
    assert done.status == 0, done.error
    heading, rows = table(done.output)
    assert heading == f"Nats per step of the test pieces of {name}:"
    assert list(rows.values()) == sorted(rows.values(), reverse=True)
    assert rows["uniform"] == pytest.approx(88 * math.log(2), abs=1e-3)
    dataset = load_symbolic(name, tmp_path)
    rolls = [[piece.grid.roll() for piece in pieces] for pieces in (dataset.train, dataset.test)]
    for model, score in KEY_MODELS.items():
        assert rows[model] == pytest.approx(score(*rolls), abs=1e-3)
    # only what was published for this set, and for no other
    published = {
        model: values[likelihood.SETS.index(name)] for model, values in likelihood.PUBLISHED.items()
    }
    assert None in published.values()
    for model, value in published.items():
        assert rows.get(model) == value
    assert 0 < rows["this composer"] < rows["uniform"]
    assert done.error.count("epoch ") == 2


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_with_capsules_the_figure_is_that_of_the_capsules(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rolls("jsb", tmp_path)
    measure, found = likelihood.measure_composer, []

    def measured(*arguments: object, **options: object) -> dict[str, float]:
        found.append(measure(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(likelihood, "measure_composer", measured)
    done = call("benchmark", "jsb", "--data", tmp_path, "--capsules")
    assert done.status == 0, done.error
    (figures,) = found
    assert table(done.output)[1]["this composer"] == pytest.approx(figures["test"], abs=1e-3)
    assert "test_without_pose" in figures


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_chorales_are_scored_by_voice_on_their_validation_pieces(
    tmp_path: Path, call: Call
) -> None:
    write_chorales(tmp_path)
    done = call("benchmark", "chorales", "--data", tmp_path)
    assert done.status == 0, done.error
    heading, rows = table(done.output)
    assert "a voice in a sixteenth" in heading
    assert set(rows) == {*likelihood.PUBLISHED_CHORALES, "this composer"}
    for model, nats in likelihood.PUBLISHED_CHORALES.items():
        assert rows[model] == nats
    # of even chances for 58 keys, held or not, a voice would cost log 58
    assert 0 < rows["this composer"] < math.log(58)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing: the data set 'jsb' is read from it"),
        (b"", "is not the file of 'jsb'"),
        (b"no matrix at all", "is not the file of 'jsb'"),
    ],
)
def test_data_that_are_missing_or_damaged(
    content: bytes | None, message: str, tmp_path: Path, call: Call
) -> None:
    if content is not None:
        file_of("jsb", tmp_path).write_bytes(content)
    assert message in refusal(call("benchmark", "jsb", "--data", tmp_path), status=1)
