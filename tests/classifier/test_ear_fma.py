"""Training on the official split of FMA, on a miniature of it, with an ear of random weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from ear_stand_in import stand_in_ear  # noqa: F401

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from miniature_fma import ROOTS, SMALL_ROOTS, SPLITS, Miniature, make_miniature

from deepmusic.classifier.data import hold_out
from deepmusic.classifier.ear.classifier import EarClassifier
from deepmusic.classifier.ear.fitting import FitOptions
from deepmusic.classifier.ear.training import train_on_ear
from deepmusic.cli import deepmusic
from deepmusic.datasets import load_dataset, read_splits
from deepmusic.errors import DataError

TOP = tuple(sorted(ROOTS[root] for root in SMALL_ROOTS))


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return make_miniature(tmp_path_factory.mktemp("fma"), 48, seconds=0.5)


@pytest.mark.slow
def test_one_command_trains_on_the_official_split(
    mini: Miniature,
    tmp_path: Path,
    stand_in_ear: Path,  # noqa: F811
) -> None:
    run = tmp_path / "run"
    words = ["train", "classifier", "--data", mini.root, "--out", run, "--epochs", 1]
    done = CliRunner().invoke(deepmusic, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert "Its subset small is used, with top genres." in done.stderr
    assert "16 test tracks of the official split" in done.stdout
    splits = read_splits(run / "splits.json", dataset := load_dataset(mini.root).dataset)
    assert splits.protocol == "official"
    for name, part in zip(
        SPLITS, (splits[0].train, splits[0].validation, splits[0].test), strict=True
    ):
        assert [dataset.tracks[i].path for i in part] == [
            row.path for row in mini.audio_rows if row.split == name
        ]
    classifier = EarClassifier.load(run)
    assert classifier.genres == TOP
    assert classifier.classify(mini.audio / mini.audio_rows[0].path).top[0].genre in TOP


@pytest.mark.slow
def test_a_level_of_the_tree_and_a_share(
    mini: Miniature,
    tmp_path: Path,
    stand_in_ear: Path,  # noqa: F811
) -> None:
    loaded = load_dataset(mini.root, level=2)
    assert len(loaded.dataset.genres) >= 2
    assert not {*loaded.dataset.genres} & {*TOP}
    options = FitOptions(epochs=1)
    trained = train_on_ear(loaded, tmp_path / "level", options=options, cache=tmp_path / "ear")
    assert trained.classifier.genres == loaded.dataset.genres
    assert trained.protocol == "official"
    words = ["evaluate", tmp_path / "level", "--data", mini.root, "--level", 2]
    done = CliRunner().invoke(deepmusic, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert f"{trained.metrics['test']['tracks']} test tracks of the official split" in done.stdout
    stored = {path.name for path in (tmp_path / "ear").glob("*.npz")}
    assert len(stored) == len(loaded.dataset.tracks)
    trained = train_on_ear(
        loaded, tmp_path / "share", test=0.0, options=options, cache=tmp_path / "ear"
    )
    assert trained.protocol == "grouped"
    assert "test" not in trained.metrics
    assert {path.name for path in (tmp_path / "ear").glob("*.npz")} == stored


def test_an_official_split_with_an_empty_part_is_refused(mini: Miniature) -> None:
    loaded = load_dataset(mini.root)
    whole = loaded.dataset
    fold = hold_out(None, loaded, whole, 0)(whole)[0]
    for kept, message in (
        ([*fold.train, *fold.validation], "no test track among the files"),
        (fold.test, f"no training track of '{TOP[0]}'"),
    ):
        part = type(whole).of(whole.root, [whole.tracks[i] for i in kept])
        with pytest.raises(DataError, match=message):
            hold_out("official", loaded, part, 0)
