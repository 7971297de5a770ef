"""Capsules learn: real digits, a short training, a test on digits not seen."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from deepmusic.capsules import (
    CapsuleLayer,
    PrimaryCapsules,
    RoutingRecord,
    init_stack_to_length,
    margin_loss,
)


class Network(nn.Module):
    def __init__(self, routing: str) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.primary = PrimaryCapsules(32, types=8, dim=8, kernel_size=3)
        self.digits = CapsuleLayer(8, 8, 10, 8, routing=routing)

    def forward(self, images: Tensor) -> RoutingRecord:
        record: RoutingRecord = self.digits(self.primary(self.stem(images)))
        return record


def learn(routing: str, epochs: int) -> tuple[list[float], float, Tensor]:
    """Mean loss of each epoch, accuracy on what was held out, lengths there."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    known, unseen = train_test_split(
        torch.arange(len(labels)), test_size=0.2, stratify=labels, random_state=7
    )
    torch.manual_seed(7)
    network = Network(routing)
    with torch.no_grad():
        features = network.stem(images[known[:256]])
    init_stack_to_length([network.primary, network.digits], features)
    optimiser = torch.optim.AdamW(network.parameters())
    # a full rate from the first step on would saturate the squash of the primary capsules
    steps = epochs * -(-len(known) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    losses = []
    for _ in range(epochs):
        total = 0.0
        batches = known[torch.randperm(len(known))].split(64)
        for batch in batches:
            loss = margin_loss(network(images[batch]).activations, labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        losses.append(total / len(batches))
    network.eval()
    with torch.no_grad():
        lengths = network(images[unseen]).activations
    accuracy = (lengths.argmax(dim=1) == labels[unseen]).double().mean().item()
    return losses, accuracy, lengths


@pytest.mark.slow
@pytest.mark.parametrize("routing", ["dynamic", "self_attention"])
def test_a_small_capsule_network_learns_digits(routing):
    losses, accuracy, lengths = learn(routing, epochs=10)
    assert losses[-1] < 0.2 * losses[0]
    assert accuracy >= 0.95
    assert (lengths >= 0).all()
    assert (lengths < 1).all()
