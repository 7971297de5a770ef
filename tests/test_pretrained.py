"""The shipped models: found by name, small; what they are, and what they make of music."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import deepmusic
from deepmusic import pretrained
from deepmusic.classifier.inference import Classifier
from deepmusic.composer import Composer
from deepmusic.datasets.symbolic import STYLES
from deepmusic.errors import CheckpointError, RequestError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
WEIGHTS = pretrained.MODELS["small"]
shipped = pytest.mark.skipif(
    not WEIGHTS.exists(), reason="this checkout has no weights yet: run the training script"
)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return deepmusic.load("small", device="cpu")


@pytest.mark.parametrize("name", ["composer", "no/such/run", "", "classifier.safetensors"])
def test_unknown_names_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if not name:
        (tmp_path / "x").mkdir()  # "" is the folder one is in, which is no run
    with pytest.raises(CheckpointError) as caught:
        deepmusic.load(name)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    if name:
        assert repr(name) in message
        assert "classifier" in message
    with pytest.raises(CheckpointError):
        deepmusic.classify("song.mp3", model=name)


def test_a_missing_model_is_not_taken_for_a_missing_song(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(pretrained.MODELS, "classifier", tmp_path / "lost.safetensors")
    with pytest.raises(CheckpointError, match="There is no model 'classifier'"):
        pretrained.load()


@shipped
def test_size_and_card() -> None:
    assert WEIGHTS.stat().st_size <= 4_000_000
    card = WEIGHTS.with_suffix(".md").read_text(encoding="utf-8")
    assert card.startswith("# ")
    for word in ("emotify", "non-commercial", "accuracy", "cannot"):
        assert word.casefold() in card.casefold(), word


@shipped
def test_what_it_is(classifier: Classifier) -> None:
    assert classifier.genres == ("classical", "electronic", "pop", "rock")
    assert 0 <= classifier.calibration.threshold < 1
    assert classifier.calibration.tracks > 300  # nearly all clips, each judged by others
    assert classifier.card["trained_on"] <= classifier.card["tracks"]
    assert str(Path(__file__).resolve().parents[2]) not in json.dumps(classifier.card)


@shipped
def test_a_run_and_a_file_are_loaded_alike(classifier: Classifier, tmp_path: Path) -> None:
    shutil.copy(WEIGHTS, tmp_path / "model.safetensors")
    for source in (tmp_path, tmp_path / "model.safetensors", str(tmp_path), WEIGHTS):
        assert deepmusic.load(source, device="cpu").digest == classifier.digest


@shipped
def test_classify_loads_once(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared_data / "clips" / "rock-7.mp3"
    first = deepmusic.classify(path, model="small")
    monkeypatch.setattr(Classifier, "load", None)
    assert deepmusic.classify(str(path), model="small") == first
    assert deepmusic.classify(io.BytesIO(path.read_bytes()), model="small").top == first.top
    assert first.path == str(path)


# ------------------------------------------------------------------------------------- composer

COMPOSER = pretrained.MODELS["composer"]
composes = pytest.mark.skipif(
    not COMPOSER.exists(), reason="this checkout has no composer yet: run the training script"
)


@pytest.fixture(scope="module")
def composer() -> Composer:
    return deepmusic.load_composer()


@pytest.mark.parametrize("name", ["classifier", "no/such/run", "", "composer.safetensors"])
def test_unknown_composers_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    messages = []
    for load in (deepmusic.load_composer, lambda model: deepmusic.generate(model=model, bars=4)):
        with pytest.raises(CheckpointError) as caught:
            load(name)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].endswith(".")
    assert "\n" not in messages[0]
    file = pretrained.MODELS.get(name, Path(name)).name  # of a shipped one, the file is named
    assert file in messages[0]


@composes
def test_the_composer_is_small_and_the_one_that_was_measured(composer: Composer) -> None:
    assert COMPOSER.stat().st_size <= 20_000_000
    assert composer.digest == hashlib.sha256(COMPOSER.read_bytes()).hexdigest()[:16]
    root = Path(__file__).resolve().parents[1]
    measured = json.loads((root / "docs" / "measured" / "composing.json").read_text("utf-8"))
    for name, section in measured.items():
        assert section["of"]["model"] == composer.digest, f"{name}: measure it again"


@composes
def test_the_composer_is_what_its_card_says(composer: Composer) -> None:
    assert composer.styles == ("chorale", "folk", "pop", "classical") == tuple(STYLES)
    card = COMPOSER.with_suffix(".md").read_text(encoding="utf-8")
    assert card.startswith("# ")
    weights = composer.network.weights
    parameters = sum(w.size for name, w in weights.items() if not name.startswith("pose_"))
    assert f"{parameters:,} parameters" in card
    assert f"{COMPOSER.stat().st_size / 1e6:.1f} MB" in card
    assert composer.training["data"] in card
    for style, made in composer.profiles.items():
        assert f"{made.pieces} training pieces" in card
        (figures,) = (line for line in card.splitlines() if line.startswith(f"| {style} |"))
        test = composer.training["metrics"]["test"]
        for kind in ("without_pose", "causal_pose"):
            assert f"{test[kind][style]:.2f}" in figures
    for data in ("JSB", "Nottingham", "POP909", "Piano-midi.de"):
        assert data in card, data
    for licence in ("public domain", "GPL-3", "MIT", "CC BY-SA", "cannot"):
        assert licence in card, licence
    assert str(Path(__file__).resolve().parents[2]) not in json.dumps(composer.training)


@composes
def test_each_style_has_all_that_it_needs(composer: Composer) -> None:
    assert set(composer.critic.styles) == set(composer.styles)
    parts = {style: len(profile.parts) for style, profile in composer.profiles.items()}
    assert parts == {"chorale": 4, "folk": 2, "pop": 3, "classical": 1}
    for style, profile in composer.profiles.items():
        assert composer.references[style], style
        assert 40 <= profile.tempo <= 200
        for low, high in profile.ranges[: len(profile.parts)]:
            assert 21 <= low < high <= 108


# onset in sixteenths and pitch of the melody
FOLK_7 = [
    (6, 77), (8, 77), (12, 78), (14, 77), (15, 75), (16, 73), (20, 77), (22, 75), (24, 73),
    (26, 77), (28, 78), (30, 77), (32, 77), (36, 75), (38, 73), (40, 77), (42, 78), (44, 77),
    (46, 77), (48, 70), (52, 66), (56, 70),
]  # fmt: skip


@pytest.mark.slow
@composes
def test_a_tune_is_the_one_of_its_seed() -> None:
    """Other processors may round differently, and so choose another note now and then."""
    tune = deepmusic.generate("folk", bars=4, seed=7, candidates=1, allow_copies=True)
    assert tune.report["key"] == "Bb minor"
    sixteenth = tune.score.ticks_per_beat // 4
    melody = [(note.onset // sixteenth, note.pitch) for note in tune.score.notes_of(0)]
    assert len(set(melody) & set(FOLK_7)) >= 10
    assert tune.score.beats == 16


@pytest.mark.slow
@composes
@pytest.mark.parametrize("style", ["chorale", "folk", "pop", "classical"])
def test_generate_gives_a_tune_that_is_likely(style: str) -> None:
    tune = deepmusic.generate(style, bars=4, seed=3, candidates=1)
    again = deepmusic.generate({style: 2.0}, bars=4, seed=3, candidates=1)
    assert tune.score == again.score
    assert tune.report == again.report
    assert tune.score.beats >= 12
    assert tune.report["notes"] == len(tune.score.notes) > 4
    nats = tune.report["nats_per_step"]
    assert math.isfinite(nats)
    assert 0 < nats < 20  # even chances for 88 keys of one part alone would cost 61
    assert sum(tune.report["style_probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert tune.report["copying"]["share"] <= 1


@pytest.mark.slow
@composes
def test_generate_loads_once_and_refuses_what_is_impossible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = deepmusic.generate(bars=4, seed=1, candidates=1)
    assert first.request.style == {"folk": 1}
    monkeypatch.setattr(Composer, "load", None)
    assert deepmusic.generate("folk", bars=4, seed=1, candidates=1).score == first.score
    with pytest.raises(RequestError, match="there are chorale, folk, pop, classical"):
        deepmusic.generate("jazz", bars=4)
    with pytest.raises(RequestError, match="4 to 256"):
        deepmusic.generate(bars=0)


# --------------------------------------------------------------------------------------- slower


def clips() -> list[Path]:
    return sorted((SHARED / "clips").glob("*.mp3"))


@shipped
@pytest.mark.slow
def test_verdicts_do_not_depend_on_the_coding(classifier: Classifier, shared_data: Path) -> None:
    assert len(clips()) == 8
    for clip in clips():
        genre, _, number = clip.stem.partition("-")
        original = classifier.classify(clip)
        small = classifier.classify(shared_data / "emotify" / genre / f"{number}.mp3")
        ours, theirs = (
            {entry.genre: entry.probability for entry in verdict.top}
            for verdict in (original, small)
        )
        assert ours == pytest.approx(theirs, abs=0.15), clip.name
        # the same genre comes first, unless two stand all but level
        assert original.top[0].probability - ours[small.top[0].genre] < 0.1, clip.name


ODD = SHARED / "odd"

CLASSIFY_ALL = """
import json, sys
import torch
torch.set_num_threads(1)
import deepmusic

classifier, results = deepmusic.load(device="cpu"), {}
for path in json.load(sys.stdin):
    try:  # three hours of sound take a minute, and show no more than these
        results[path] = classifier.classify(path, max_seconds=300).to_dict()
    except deepmusic.AudioError as error:
        results[path] = {"path": path, "error": str(error), "code": error.code}
lines = open("/proc/self/status").read().splitlines() if sys.platform == "linux" else []
peak = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
json.dump({"results": results, "peak_mb": peak}, sys.stdout)
"""


def manifest() -> dict[str, dict[str, str]]:
    if not (ODD / "manifest.csv").exists():
        return {}
    with open(ODD / "manifest.csv", encoding="utf-8", newline="") as table:
        return {row["file"]: row for row in csv.DictReader(table)}


ROWS = manifest()


@pytest.fixture(scope="module")
def odd() -> dict[str, Any]:
    if not ROWS:
        pytest.skip("the data folder ../shared/data is not on this machine")
    done = subprocess.run(
        [sys.executable, "-c", CLASSIFY_ALL],
        input=json.dumps([str(ODD / name) for name in ROWS]),
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result | {"stderr": done.stderr}


@shipped
@pytest.mark.slow
def test_odd_files_make_no_noise_and_fill_no_memory(odd: dict[str, Any]) -> None:
    assert odd["stderr"] == ""
    assert all(peak < 800 for peak in odd["peak_mb"])
    assert len(odd["results"]) == len(ROWS) > 200


@shipped
@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_odd_file(name: str, odd: dict[str, Any]) -> None:
    verdict = odd["results"][str(ODD / name)]
    expected = ROWS[name]["expectation"] if ROWS[name]["kind"] == "audio" else "reason"
    if verdict["error"] is None:
        assert expected in {"verdict", "either"}
        assert verdict["duration_s"] > 0
        assert sum(entry["probability"] for entry in verdict["top"]) == pytest.approx(1, abs=1e-3)
        assert verdict["genre"] in {None, verdict["top"][0]["genre"]}
    else:
        assert expected in {"reason", "either"}, verdict["error"]
        assert verdict["code"]
        assert verdict["error"].endswith(".")
        assert "\n" not in verdict["error"]
