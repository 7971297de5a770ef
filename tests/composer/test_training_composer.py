"""A composer trained on two synthetic styles, and what it then composes."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from deepmusic.capsules import margin_loss
from deepmusic.composer import (
    Composer,
    ComposerConfig,
    ComposerNetwork,
    Request,
    TrainedComposer,
    critic_training,
    train_composer,
)
from deepmusic.composer.training import encoded_sides, style_accuracy
from deepmusic.datasets import Piece, SymbolicDataset
from deepmusic.errors import CheckpointError, CopyingError, DataError, RequestError, ScoreError
from deepmusic.music import (
    Grid,
    Note,
    Part,
    Score,
    Tempo,
    TimeSignature,
    grid_to_score,
    midi_bytes,
    write_midi,
)
from deepmusic.training import Progress, TrainingConfig, load_weights, read_history, save_weights

pytestmark = pytest.mark.slow

PARTS = (Part("tune", 73), Part("bass", 32))
SCALE = {False: [0, 2, 4, 5, 7, 9, 11], True: [0, 2, 3, 5, 7, 8, 10]}
CONFIG = ComposerConfig(
    styles=("scales", "chords"), parts=2, lowest=33, pitches=64, frame_dim=48, hidden=64, head=32,
    passage_steps=32, primary_types=8, primary_dim=8, pose_dim=4, dropout=0.0,
)  # fmt: skip
TRAINING = TrainingConfig(
    epochs=3, batch_size=8, learning_rate=0.006, ema_decay=0.8, device="cpu",
)  # fmt: skip


def scales(seed: int, bars: int = 8, *, beats: int = 4) -> Grid:
    """A tune up and down the scale in quarter notes over whole notes."""
    random = np.random.default_rng(seed)
    is_minor, tonic = seed % 3 == 0, int(random.integers(-5, 6))
    rows, degree = [], 0
    for beat in range(bars * beats):
        if beat % beats == 0:
            low = SCALE[is_minor][[0, 3, 4, 0][(beat // beats) % 4]]
            rows.append((4 * beat, 4 * beats, 48 + tonic + low, 1))
        octave, step = divmod(degree, 7)
        rows.append((4 * beat, 4, 72 + tonic + 12 * octave + SCALE[is_minor][step], 0))
        degree = 0 if beat == bars * beats - 2 else max(-7, min(7, degree + random.choice([-1, 1])))
    return grid(rows, bars * beats * 4, beats)


def chords(seed: int, bars: int = 8, *, beats: int = 4) -> Grid:
    """Broken chords in sixteenths over short low notes."""
    random = np.random.default_rng(seed)
    is_minor, tonic = seed % 3 == 0, int(random.integers(-5, 6))
    rows = []
    for bar in range(bars):
        root = 0 if bar in (0, bars - 1) else int(random.choice([0, 3, 4, 5]))
        order = random.permutation([root, root + 2, root + 4, root + 7])
        for step in range(4 * beats):
            octave, degree = divmod(order[step % 4], 7)
            pitch = 60 + tonic + 12 * octave + SCALE[is_minor][degree]
            rows.append((4 * beats * bar + step, 1, pitch, 0))
        low = 36 + tonic + SCALE[is_minor][root]
        rows += [(4 * (beats * bar + beat), 2, low, 1) for beat in range(beats)]
    return grid(rows, bars * beats * 4, beats)


def grid(rows: list[tuple[int, int, int, int]], steps: int, beats: int) -> Grid:
    onset, duration, pitch, part = np.array(rows, np.int64).T
    return Grid(
        4, steps, onset, duration, pitch, part, parts=PARTS, tempos=(Tempo(0, 600_000),),
        time_signatures=(TimeSignature(0, beats, 4),),
    )  # fmt: skip


MAKERS = {"scales": scales, "chords": chords}


def dataset() -> SymbolicDataset:
    sides: dict[str, tuple[Piece, ...]] = {}
    for first, (side, count) in enumerate((("train", 12), ("validation", 3), ("test", 3))):
        sides[side] = tuple(
            Piece(f"{style}/{side}/{n}", style, make(100 * first + n, beats=3 if n == 5 else 4))
            for style, make in MAKERS.items()
            for n in range(count)
        )
    return SymbolicDataset("made", 4, **sides, has_onsets=True)


def train(
    run: Path, data: SymbolicDataset | None = None, *, excerpts: int = 240, **options: Any
) -> TrainedComposer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critic_training, "_MAX_PER_STYLE", 40)  # a small critic: most of the time
        return train_composer(
            data or dataset(), run, config=CONFIG, training=TRAINING, excerpts=excerpts, **options
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedComposer:
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp("composer") / "run")


@pytest.fixture(scope="module")
def composer(trained: TrainedComposer) -> Composer:
    return Composer.load(trained.run)


def asked(style: str = "scales", **options: Any) -> Request:
    usual = {"bars": 4, "seed": 1, "candidates": 2, "allow_copies": True}
    return Request(style={style: 1}, **{**usual, **options})


def rows(score: Score, *, part: int | None = None) -> list[tuple[float, float, int, int]]:
    """Onset and length in beats, pitch, part."""
    beat = score.ticks_per_beat
    return sorted(
        (n.onset / beat, n.duration / beat, n.pitch, n.part)
        for n in score.notes
        if part is None or n.part == part
    )


# ------------------------------------------------------------------------------------- training


def test_a_run_has_its_files_and_learns(trained: TrainedComposer) -> None:
    run = trained.run
    for name in (
        "config.json", "history.jsonl", "loss.png", "accuracy.png", "nats_per_step.png",
        "best/weights.safetensors", "checkpoint/state.safetensors", "model.safetensors",
        "metrics.json",
    ):  # fmt: skip
        assert (run / name).stat().st_size, name
    history = [record["validation"] for record in read_history(run)]
    nats = [record["nats_per_step"] for record in history]
    assert len(nats) == 3
    assert nats[-1] < 0.7 * nats[0]
    assert all(later < earlier for earlier, later in pairwise(nats))
    by_style = {f"nats_per_step_{style}" for style in CONFIG.styles}
    assert by_style <= set(history[-1])
    assert {*by_style, "objective"} <= set(read_history(run)[-1]["train"])
    assert not any(name.startswith("train_") for name in history[-1])
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics == trained.metrics
    assert set(metrics) == {"validation", "test"}
    for side in metrics.values():
        assert 0.5 <= side["style_accuracy"] <= 1
        for kind in ("without_pose", "causal_pose"):
            assert set(side[kind]) == set(CONFIG.styles)
            # a uniform distribution of what two parts of 64 pitches can do is above 100
            assert all(0 < value < 2 for value in side[kind].values())
    mean = np.mean(list(metrics["validation"]["without_pose"].values()))
    assert mean == pytest.approx(min(nats), abs=1e-3)
    assert trained.problems == ()


def test_the_model_file_describes_training_and_styles(
    trained: TrainedComposer, composer: Composer
) -> None:
    assert composer.training["pieces"] == {"train": 24, "validation": 6, "test": 6}
    assert composer.training["metrics"] == trained.metrics
    assert composer.training["training"]["epochs"] == 3
    assert composer.config == CONFIG
    assert len(composer.digest) == 16
    assert composer.profiles == trained.composer.profiles
    for name, made in composer.profiles.items():
        assert made.parts == (("tune", 73), ("bass", 32))
        assert (made.pieces, made.tempo, made.bars) == (12, 100, 8)
        assert made.metres == ((4, 4, 11 / 12), (3, 4, 1 / 12))
        assert made.minor_share == pytest.approx(4 / 12)
        assert made.ranges[0][0] > made.ranges[1][0]  # the bass is below
        assert composer.references[name]
    assert composer.profiles["scales"].ranges != composer.profiles["chords"].ranges
    trained_weights = trained.composer.network.weights
    assert composer.network.weights.keys() == trained_weights.keys()
    for name, kept in ComposerNetwork.of(composer.network).state_dict().items():
        half = trained_weights[name].astype(np.float16)
        np.testing.assert_array_equal(kept.numpy(), half, err_msg=name)


def test_style_capsules_learn_to_distinguish_the_styles() -> None:
    """By their own loss alone: beside the decoder's, so small a model takes longer."""
    sides, problems = encoded_sides(dataset(), CONFIG)
    assert not problems
    torch.manual_seed(0)
    network = ComposerNetwork(CONFIG)
    passages = np.stack([piece.passage(32) for piece, _ in sides["train"]])
    styles = torch.tensor([style for _, style in sides["train"]])
    optimizer = torch.optim.Adam(network.encoder.parameters(), lr=0.003)
    for _ in range(40):
        optimizer.zero_grad()
        encoded = network.encoder(torch.from_numpy(passages).float())
        margin_loss(encoded.lengths, styles).backward()
        optimizer.step()
    assert style_accuracy(network.eval(), sides["test"]) == 1


def test_an_interrupted_run_resumes_to_the_same_result(tmp_path: Path) -> None:
    whole = dataset()
    sides = (whole.train[::6], whole.validation[::3], whole.test[::3])
    few = replace(whole, **dict(zip(("train", "validation", "test"), sides, strict=True)))

    def interrupt(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (2, 2):
            raise InterruptedError

    train(tmp_path / "whole", few, excerpts=24)
    with pytest.raises(InterruptedError):
        train(tmp_path / "run", few, excerpts=24, on_progress=interrupt)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    train(tmp_path / "run", few, excerpts=24, resume=True)
    resumed, metadata = load_weights(tmp_path / "run" / "model.safetensors")
    expected, expected_metadata = load_weights(tmp_path / "whole" / "model.safetensors")
    assert metadata == expected_metadata
    assert resumed.keys() == expected.keys()
    for name, tensor in resumed.items():
        assert torch.equal(tensor, expected[name]), name
    for name in ("model.safetensors", "best/weights.safetensors", "metrics.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_existing_run_and_other_data_are_refused(trained: TrainedComposer) -> None:
    before = (trained.run / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="already holds a run"):
        train(trained.run)
    whole = dataset()
    with pytest.raises(CheckpointError, match="another"):
        train(trained.run, replace(whole, train=whole.train[:-1]), resume=True)
    assert (trained.run / "model.safetensors").read_bytes() == before


def test_pieces_that_cannot_be_used_are_reported(tmp_path: Path) -> None:
    bad = tuple(
        Piece(name, "scales", made)
        for name, made in {
            "wide": Grid(4, 8, [0, 4], [4, 4], [2, 125]),
            "drums": Grid(4, 8, [0], [4], [36], parts=(Part("drums", is_drum=True),)),
            "silent": Grid(4, 8, [], [], np.zeros(0, int)),
        }.items()
    )
    whole = dataset()
    sides, problems = encoded_sides(replace(whole, train=(*whole.train, *bad)), CONFIG)
    assert len(sides["train"]) == 24
    codes = {"wide": "out_of_range", "drums": "no_notes", "silent": "no_notes"}
    assert {problem.path: problem.code for problem in problems} == codes
    assert all(problem.message.startswith(problem.path) for problem in problems)
    nothing = replace(whole, train=bad, validation=(), test=())
    with pytest.raises(DataError, match="no training piece"):
        train_composer(nothing, tmp_path / "run", config=CONFIG, training=TRAINING)


# ------------------------------------------------------------------------------------ composing


def test_a_report_describes_the_tune(composer: Composer) -> None:
    tune = composer.compose(asked("chords", bars=6, key="F# minor", metre="3/4", tempo=90))
    score, report = tune.score, tune.report
    assert json.loads(json.dumps(report)) == report
    assert score.parts == PARTS
    assert score.time_signatures == (TimeSignature(0, 3, 4),)
    assert score.beats == 18
    assert [(k.sharps, k.is_minor) for k in score.key_signatures] == [(3, True)]
    assert score.tempos[0].beats_per_minute == pytest.approx(90, abs=0.01)
    assert (report["bars"], report["metre"], report["key"]) == (6, "3/4", "F# minor")
    assert (report["notes"], report["candidates_tried"]) == (len(score.notes), 2)
    assert report["seconds"] == pytest.approx(12)
    assert (report["model"], report["files"]) == (composer.digest, {})
    assert Request.from_dict(report["request"]) == tune.request
    assert len(report["pose"]["chords"]) == 4
    assert sum(report["style_probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert report["nats_per_step"] > 0
    assert report["copying"] is not None


@pytest.mark.parametrize(("key", "shift"), [("F#", 6), ("G", -5), ("Eb minor", 6)])
def test_a_tune_in_any_key_is_in_the_range_of_its_style(
    composer: Composer, key: str, shift: int
) -> None:
    tune = composer.compose(asked(key=key))
    for part, (low, high) in enumerate(composer.profiles["scales"].ranges):
        pitches = [note.pitch - shift for note in tune.score.notes_of(part)]
        assert low - 3 <= min(pitches)
        assert max(pitches) <= high + 3


def test_twice_the_same_request_gives_the_same_bytes(composer: Composer) -> None:
    for options in ({}, {"style": "chords", "key": "D", "pose": {"density": 1}, "candidates": 3}):
        first, again = (composer.compose(asked(**options)) for _ in range(2))
        assert midi_bytes(first.score) == midi_bytes(again.score)
        assert first.report == again.report
        other = composer.compose(asked(**{**options, "seed": 2}))
        assert midi_bytes(other.score) != midi_bytes(first.score)


def test_what_is_not_a_composer_is_refused(trained: TrainedComposer, tmp_path: Path) -> None:
    arrays, metadata = load_weights(trained.run / "model.safetensors")
    files = [tmp_path / "nothing", tmp_path, trained.run / "best" / "weights.safetensors"]
    for lost in ("config", "profiles", "critic", "references", "training"):
        files.append(tmp_path / f"{lost}.safetensors")
        others = {name: value for name, value in metadata.items() if name != lost}
        save_weights(files[-1], arrays, others)
    for left_out in ("head.read", "graph."):  # files of former versions have no graphs
        files.append(tmp_path / f"no-{left_out}safetensors")
        fewer = {name: tensor for name, tensor in arrays.items() if left_out not in name}
        save_weights(files[-1], fewer, metadata)
    for file in files:
        with pytest.raises(CheckpointError):
            Composer.load(file)


def test_a_pose_moves_by_dimension_and_by_attribute(composer: Composer) -> None:
    usual = composer.poses_for(asked())
    moved = composer.poses_for(asked(pose={"2": 0.5}))
    np.testing.assert_allclose(moved - usual, [[0, 0, 0.5, 0], [0] * 4], atol=1e-6)
    moved = composer.poses_for(asked(pose={"density": 2, "0": 1}))
    alone = composer.poses_for(asked(pose={"density": 2}))
    np.testing.assert_allclose(moved - alone, [[1, 0, 0, 0], [0] * 4], atol=1e-6)
    steps = composer.network.pose_directions[0, 0]
    assert np.abs(steps).max() > 0
    np.testing.assert_allclose(alone[0] - usual[0], 2 * steps, atol=1e-6)
    np.testing.assert_array_equal(composer.poses_for(asked(seed=1)), usual)
    assert (composer.poses_for(asked(seed=2))[0] != usual[0]).all()
    for name in ("4", "-1", "loudness", ""):
        with pytest.raises(RequestError, match="dimensions 0 to 3 and density"):
            composer.poses_for(asked(pose={name: 1}))


def test_a_pose_is_taken_from_a_piece(composer: Composer, tmp_path: Path) -> None:
    write_midi(grid_to_score(chords(321)), tmp_path / "like.mid")
    request = asked(pose_from=tmp_path / "like.mid")
    poses = composer.poses_for(request)
    np.testing.assert_array_equal(poses[0], composer.pose_of(tmp_path / "like.mid", "scales"))
    tune = composer.compose(request)
    assert list(tune.report["files"]) == [str(tmp_path / "like.mid")]
    assert tune.report["pose"]["scales"] == [round(float(x), 4) for x in poses[0]]


def test_without_capsules_poses_cannot_be_moved(composer: Composer) -> None:
    plain = replace(composer, network=SimpleNamespace(config=replace(CONFIG, capsules=False)))
    assert plain.plan(asked()).poses.tolist() == [[0.0] * 4] * 2
    for options in ({"pose": {"0": 1}}, {"pose_from": "x.mid"}):
        with pytest.raises(RequestError, match="no capsules"):
            plain.compose(asked(**options))


def test_a_tune_that_copies_is_refused_unless_copies_are_allowed(composer: Composer) -> None:
    def with_limit(most: float) -> Composer:
        (first, *_), *_ = composer.references.values()
        percentiles = replace(first.steps, p95=most)
        reference = replace(first, steps=percentiles, chords=percentiles)
        return replace(composer, references=dict.fromkeys(CONFIG.styles, (reference,)))

    with pytest.raises(CopyingError, match="All 4 candidates share longer passages"):
        with_limit(-1).compose(asked(allow_copies=False, candidates=1))
    tune = with_limit(-1).compose(asked(candidates=1))
    assert tune.report["copying"]["is_beyond"]
    free = with_limit(1e6).compose(asked(allow_copies=False, candidates=1))
    assert not free.report["copying"]["is_beyond"]
    assert midi_bytes(free.score) == midi_bytes(tune.score)


# ---------------------------------------------------------------------------------------- given


class Made(NamedTuple):
    path: Path
    score: Score


@pytest.fixture
def primer(tmp_path: Path) -> Made:
    """Three bars in two parts, a tone above C, the last low note held to the end."""
    made = [(0, 4, 74, 0), (4, 4, 76, 0), (8, 4, 78, 0), (12, 4, 79, 0), (0, 16, 50, 1)]
    made += [(16 + n, 1, 81 - n % 4, 0) for n in range(16)] + [(16, 16, 57, 1)]
    made += [(32, 8, 78, 0), (40, 7, 74, 0), (32, 16, 50, 1)]
    score = replace(grid_to_score(grid(made, 48, 4)), tempos=(Tempo(0, 750_000),))
    write_midi(score, tmp_path / "primer.mid")
    return Made(tmp_path / "primer.mid", score)


def test_a_primer_is_continued(composer: Composer, primer: Made) -> None:
    for style in CONFIG.styles:
        tune = composer.compose(asked(style, primer=primer.path, bars=6))
        kept = rows(primer.score)
        got = [row for row in rows(tune.score) if row[0] < 12]
        # what sounds to the very end may be held on
        assert [(o, p, part) for o, _, p, part in got] == [(o, p, part) for o, _, p, part in kept]
        for (onset, length, _, _), (_, expected, _, _) in zip(got, kept, strict=True):
            if onset + expected < 12:
                assert length == expected
            else:
                assert length >= expected
        assert tune.score.beats == 24
        assert any(note.onset >= 12 * tune.score.ticks_per_beat for note in tune.score.notes)
        assert tune.report["key"] == "D major"
        assert tune.report["tempo"] == 80
        assert tune.report["files"] == {str(primer.path): tune.report["files"][str(primer.path)]}
    usual = composer.compose(asked(primer=primer.path, bars=None))
    assert usual.report["bars"] == 3 + 16


def test_infilled_bars_change_and_all_others_stay(composer: Composer, primer: Made) -> None:
    tune = composer.compose(asked(primer=primer.path, bars=None, infill=(2, 2)))
    before, after = rows(primer.score), rows(tune.score)
    assert [r for r in before if r[0] + r[1] < 4] == [r for r in after if r[0] + r[1] < 4]
    assert [r for r in before if r[0] >= 8] == [r for r in after if r[0] >= 8]
    assert [r for r in before if 4 <= r[0] < 8] != [r for r in after if 4 <= r[0] < 8]
    assert tune.score.beats == 12
    whole = composer.compose(asked(primer=primer.path, bars=None, infill=(1, 3)))
    assert rows(whole.score) != before


def moved(score: Score, semitones: int) -> Score:
    notes = tuple(replace(note, pitch=note.pitch + semitones) for note in score.notes)
    return replace(score, notes=notes, key_signatures=())


@pytest.mark.parametrize("style", CONFIG.styles)
@pytest.mark.parametrize("octaves", [-4, 0, 1])
def test_a_melody_keeps_its_octave_whatever_it_is(
    composer: Composer, primer: Made, tmp_path: Path, style: str, octaves: int
) -> None:
    melody = moved(replace(primer.score, notes=primer.score.notes_of(0)), 12 * octaves)
    write_midi(melody, tmp_path / "moved.mid")
    request = asked(style, harmonize=tmp_path / "moved.mid", bars=None)
    tune, other = (composer.compose(replace(request, seed=seed)) for seed in (1, 2))
    # the last note may be held where nothing follows it
    kept = [row for row in rows(tune.score, part=0) if row[0] < 10]
    assert kept == [row for row in rows(melody) if row[0] < 10]
    assert tune.report["bars"] == 4  # the fewest
    assert rows(other.score, part=1) != rows(tune.score, part=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "jazz"}, "There is no style 'jazz'; there are scales, chords"),
        ({"metre": "5/4"}, "The style has no music in 5/4; it has 4/4, 3/4"),
        ({"pose": {"loudness": 1}}, "A pose has no 'loudness'"),
    ],
)
def test_requests_beyond_the_styles_are_refused(
    composer: Composer, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        composer.compose(asked(**options))
    assert message in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit_are_refused(
    composer: Composer, primer: Made, tmp_path: Path
) -> None:
    def refused(kind: type[Exception] = RequestError, **options: Any) -> str:
        with pytest.raises(kind) as caught:
            composer.compose(asked(**{"bars": None, **options}))
        assert str(caught.value).endswith(".")
        return str(caught.value)

    assert "request more bars" in refused(primer=_longer(primer, tmp_path), bars=4)
    assert "has 3 bars" in refused(primer=primer.path, infill=(3, 4))
    assert "has 5 bars, more than the 4" in refused(harmonize=_longer(primer, tmp_path), bars=4)
    drums = tmp_path / "drums.mid"
    write_midi(Score(480, (Note(0, 480, 36),), (Part("kit", is_drum=True),)), drums)
    assert "no notes but drums" in refused(ScoreError, primer=drums)
    assert "does not exist" in refused(ScoreError, primer=tmp_path / "none.mid")
    (tmp_path / "text.mid").write_text("la la la")
    refused(ScoreError, primer=tmp_path / "text.mid")


def _longer(primer: Made, folder: Path) -> Path:
    score = primer.score
    beat = score.ticks_per_beat
    notes = (*score.notes, Note(16 * beat, beat, 74))
    write_midi(Score(beat, notes, score.parts), folder / "longer.mid")
    return folder / "longer.mid"


def test_the_metre_of_a_given_piece_is_kept(composer: Composer, tmp_path: Path) -> None:
    for beats, expected, notes in ((3, "3/4", 0), (5, "5/4", 1)):
        path = tmp_path / f"{beats}.mid"
        write_midi(grid_to_score(scales(1, bars=2, beats=beats)), path)
        tune = composer.compose(asked(primer=path, bars=8))
        assert tune.report["metre"] == expected
        assert len(tune.report["warnings"]) == notes
