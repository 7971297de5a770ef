"""Training items as a function of their key, augmentation, and genres that can be learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import spectrograms, tiny_config

from deepmusic.audio import mel_filters, segment_starts
from deepmusic.classifier.config import ROUTINGS, ClassifierConfig
from deepmusic.classifier.model import ClassifierNetwork, Views, texture, views
from deepmusic.classifier.task import (
    LOW_PASS_HZ,
    Augmentation,
    ClassifierTask,
    segment_textures,
)
from deepmusic.classifier.training import DEFAULT_TRAINING
from deepmusic.training import fit

TRAIN, VALIDATION = spectrograms(12), spectrograms(12, seed=1)
DEFAULT = Augmentation()
PLAIN = Augmentation(gain_db=0.0, mask_share=0.0, mixup=0.0)


def tracks_for(config: ClassifierConfig, side: tuple[Any, Any]) -> tuple[Any, Any]:
    """Spectrograms, or what a texture network takes instead, and labels."""
    if config.position_types:
        return side
    return [segment_textures(whole, config) for whole in side[0]], side[1]


def make_task(
    *, seed: int = 0, augmentation: Augmentation = DEFAULT, **changes: Any
) -> ClassifierTask:
    config = tiny_config(**changes)
    train, validation = tracks_for(config, TRAIN), tracks_for(config, VALIDATION)
    return ClassifierTask(config, train, validation, seed=seed, augmentation=augmentation)


def first_batch(task: ClassifierTask, *, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return task.collate([task.dataset[epoch, index] for index in range(len(task.dataset))])


def test_an_item_follows_from_seed_epoch_and_index() -> None:
    items, same = make_task(seed=3).dataset, make_task(seed=3).dataset
    segment, label = items[2, 5]
    for _ in range(3):  # earlier draws make no difference
        same[3, 10]
        np.random.random()  # noqa: NPY002
        torch.rand(1)
    assert torch.equal(segment, same[2, 5][0])
    assert label == TRAIN[1][5]
    assert (segment.shape, segment.dtype) == ((128, 128), torch.float32)
    for other in (items[3, 5], items[2, 7], make_task(seed=4).dataset[2, 5]):
        assert not torch.equal(segment, other[0])


def test_an_item_is_a_segment_with_a_gain() -> None:
    items = make_task(seed=3).dataset
    whole = TRAIN[0][4].astype(np.float32)
    positions, gains = set(), []
    for epoch in range(60):
        segment = items[epoch, 4][0].numpy()
        errors = [
            np.ptp(segment - whole[:, start : start + 128]) for start in range(whole.shape[1] - 127)
        ]
        start = int(np.argmin(errors))
        assert errors[start] < 1e-4
        positions.add(start)
        gains.append(float((segment - whole[:, start : start + 128]).mean()))
    assert len(positions) > 40
    assert min(positions) < 20 < 190 < max(positions) <= whole.shape[1] - 128
    assert -6 <= min(gains) < -4 < 4 < max(gains) <= 6


@pytest.mark.slow
@pytest.mark.parametrize("routing", ["dynamic", "uniform", "none"])
def test_weights_follow_from_the_seed(routing: str) -> None:
    torch.manual_seed(99)
    state = torch.get_rng_state()
    one = make_task(seed=1, routing=routing).model.state_dict()
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    torch.rand(5)
    other = make_task(seed=1, routing=routing).model.state_dict()
    for name in one:
        assert torch.equal(one[name], other[name]), name
    third = make_task(seed=2, routing=routing).model.state_dict()
    assert any(not torch.equal(one[name], third[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"routing": routing} for routing in ROUTINGS]
    + [{"position_types": 0}, {"texture_capsules": 0}],
    ids=str,
)
def test_the_loss_falls_on_one_batch(changes: dict[str, Any]) -> None:
    calm = {"dropout": 0.0, "texture_dropout": 0.0, "capsule_dropout": 0.0}
    task = make_task(augmentation=PLAIN, **calm, **changes)
    batch = first_batch(task)
    optimizer = torch.optim.Adam(task.model.parameters(), 0.01)
    losses = []
    for _ in range(25):
        loss, measures = task.loss(task.model.train(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        assert 0 <= float(measures["accuracy"]) <= 1
        assert ("coupling_entropy" in measures) == (task.config.routing != "none")
    assert all(p.grad is not None for p in task.model.parameters())  # each one takes part
    assert losses[-1] < 0.85 * losses[0]


def test_the_reconstruction_has_its_weight_in_the_loss() -> None:
    losses = []
    for weight in (0.0, 0.1, 0.2):
        task = make_task(augmentation=PLAIN, reconstruction=weight or 1e-9)
        losses.append(float(task.loss(task.model.eval(), first_batch(task))[0].detach()))
    assert losses[0] < losses[1] < losses[2]
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-3)


def test_training_tracks_are_measured_like_validation_tracks() -> None:
    config = tiny_config()
    loud = Augmentation(gain_db=40.0, mask_share=0.9)  # neither augmentation nor mixup counts
    task = ClassifierTask(config, TRAIN, TRAIN, seed=0, augmentation=loud)
    measured = task.validate(task.model.eval())
    for name in ("loss", "accuracy"):
        assert measured[f"train_{name}"] == pytest.approx(measured[name], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"channels": (16, 32, 64), "position_types": 16, "texture_capsules": 32},
        {"texture_capsules": 0},
        {"routing": "none"},
        {"position_types": 0, "texture_capsules": 32},
    ],
    ids=["all", "positions", "plain", "textures"],
)
def test_learns_two_genres(changes: dict[str, Any], tmp_path: Path) -> None:
    training = replace(DEFAULT_TRAINING, epochs=18, batch_size=6, device="cpu")
    task = make_task(seed=4, pose_dim=8, genre_dim=16, **changes)
    history = fit(task, training, tmp_path)
    assert history[-1]["train"]["loss"] < history[0]["train"]["loss"]
    train, fresh = (tracks_for(task.config, s) for s in (TRAIN, spectrograms(20, seed=2)))
    fresh_task = ClassifierTask(task.config, train, fresh, seed=0)
    assert fresh_task.validate(task.model)["accuracy"] > 0.9


def spied(task: ClassifierTask, batch: Any) -> tuple[Views, torch.Tensor]:
    """The network's inputs when the loss is computed, and the loss."""
    inputs: list[Views] = []
    handle = task.model.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    loss, _ = task.loss(task.model, batch)
    handle.remove()
    return inputs[0], loss


@pytest.mark.slow
def test_masks_cover_blocks_of_the_image_only() -> None:
    whole, _ = spied(make_task(augmentation=PLAIN), first_batch(make_task(augmentation=PLAIN)))
    task = make_task(augmentation=Augmentation(gain_db=0.0, mask_share=0.25, mixup=0.0))
    network = task.model
    assert isinstance(network, ClassifierNetwork)
    network.image_mean += 1000  # a fill that no sound has
    widest = 0.0
    for seed in range(20):
        torch.manual_seed(seed)
        masked, _ = spied(task, first_batch(task))
        assert torch.equal(masked.texture, whole.texture)
        assert masked.image.shape == whole.image.shape
        hidden = masked.image != whole.image
        fill = network.image_mean.view(1, -1, 1).expand_as(masked.image)
        assert torch.equal(masked.image[hidden], fill[hidden])
        for one in hidden:
            bands, frames = one.all(dim=1), one.all(dim=0)
            assert torch.equal(one, bands[:, None] | frames)
            for axis in (bands, frames):
                widest = max(widest, float(axis.float().mean()))
                assert axis.sum() <= 0.25 * len(axis) + 1
                positions = axis.nonzero().flatten()
                assert len(positions) == 0 or positions[-1] - positions[0] + 1 == len(
                    positions
                )  # one block
    assert widest > 0.15


def test_mixup_mixes_sound_and_label_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(augmentation=Augmentation(gain_db=0.0, mask_share=0.0, mixup=1.0))
    plain = make_task(augmentation=PLAIN)
    whole, _ = spied(plain, first_batch(plain))
    targets: list[torch.Tensor] = []

    def kept(lengths: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        targets.append(target)
        return lengths.sum()

    monkeypatch.setattr("deepmusic.classifier.task.margin_loss", kept)
    shares = []
    for seed in range(5):
        torch.manual_seed(seed)
        mixed, _ = spied(task, first_batch(task))
        target = targets.pop()
        torch.testing.assert_close(target.sum(dim=1), torch.ones(12))
        assert mixed.image.shape == whole.image.shape
        for index in range(12):
            # the partner and the share that explain the image must explain texture and label
            steps = whole.image - whole.image[index]
            steps[index, 0] = 1.0  # no partner of its own
            moved = mixed.image[index] - whole.image[index]
            by_partner = (moved * steps).sum(dim=(1, 2)) / steps.square().sum(dim=(1, 2))
            errors = (moved - by_partner[:, None, None] * steps).abs().amax(dim=(1, 2))
            partner = int(errors.argmin())
            share = float(by_partner[partner])
            assert errors[partner] < 1e-2
            assert -1e-4 <= share <= 0.5 + 1e-4  # the segment itself has the larger part
            shares.append(share)
            torch.testing.assert_close(
                mixed.texture[index],
                (1 - share) * whole.texture[index] + share * whole.texture[partner],
                atol=1e-2,
                rtol=1e-3,
            )
            own, its = TRAIN[1][index], TRAIN[1][partner]
            expected = (1 - share) * (own == 1) + share * (its == 1)
            assert float(target[index, 1]) == pytest.approx(expected, abs=1e-3)
    assert max(shares) > 0.4


@pytest.mark.parametrize("changes", [{}, {"texture_capsules": 0}, {"routing": "none"}], ids=str)
def test_validation_scores_are_means_over_segments(changes: dict[str, Any]) -> None:
    task = make_task(**changes)
    model = task.model.eval()
    scores = task.validation_scores(model)
    for index, whole in enumerate(VALIDATION[0][:4]):
        starts = segment_starts(whole.shape[1], length=128, hop=128)
        parts = [torch.from_numpy(whole[:, s : s + 128].astype(np.float32)) for s in starts]
        output = torch.cat([model(views(p.unsqueeze(0), task.config)).log_scores for p in parts])
        torch.testing.assert_close(scores[index], output.mean(dim=0), atol=1e-4, rtol=1e-4)


def test_texture_networks_use_the_texture_of_each_second() -> None:
    task = make_task(position_types=0)
    rows = segment_textures(TRAIN[0][3], task.config)
    whole = torch.from_numpy(TRAIN[0][3].astype(np.float32))
    starts = segment_starts(whole.shape[1], length=128, hop=round(22050 / 512))
    expected = [texture(whole[None, :, s : s + 128]) for s in starts]
    np.testing.assert_allclose(rows, torch.cat(expected).numpy(), atol=1e-5)
    drawn = {task.dataset[epoch, 3][0].numpy().tobytes() for epoch in range(60)}
    assert drawn == {row.tobytes() for row in rows}
    assert task.dataset[0, 3][1] == TRAIN[1][3]
    model = task.model.eval()
    scores = task.validation_scores(model)
    for index, whole in enumerate(VALIDATION[0][:4]):
        rows = torch.from_numpy(segment_textures(whole, task.config)[::3])  # 3 s per segment
        output = model(Views(torch.zeros(len(rows), task.config.bands, 0), rows)).log_scores
        torch.testing.assert_close(scores[index], output.mean(dim=0), atol=1e-4, rtol=1e-4)


def test_a_low_pass_silences_all_bands_above_a_frequency() -> None:
    config = tiny_config()
    hz = mel_filters(config.log_mel).argmax(axis=1) * config.log_mel.sample_rate
    hz = hz / config.log_mel.n_fft
    always = Augmentation(gain_db=0.0, mask_share=0.0, mixup=0.0, low_pass=1.0)
    cut, whole = (make_task(augmentation=a).dataset for a in (always, PLAIN))
    first = set()
    for index in range(12):
        (low, _), (all_bands, _) = cut[0, index], whole[0, index]
        silent = (low == -100).all(dim=1).numpy()
        edge = int(silent.argmax())
        assert silent[edge:].all()
        assert torch.equal(low[:edge], all_bands[:edge])
        assert LOW_PASS_HZ[0] <= hz[edge] <= LOW_PASS_HZ[1] * 1.05
        first.add(edge)
    assert len(first) > 5
    textures = segment_textures(TRAIN[0][1], config, np.random.default_rng(0))
    assert textures.shape == segment_textures(TRAIN[0][1], config).shape
    assert np.isfinite(textures).all()
    assert not np.array_equal(textures, segment_textures(TRAIN[0][1], config))
