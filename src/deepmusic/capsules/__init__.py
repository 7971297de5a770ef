"""Capsule networks for PyTorch: routing, layers, losses; nothing of it knows of music.

::

    layer = CapsuleLayer(1152, 8, 10, 16)
    poses, activations, coupling = layer(children)  # children: (b, 1152, 8)
    loss = margin_loss(activations, labels)

Axes: b batch, p places, i children, d their pose, o parents, h their pose.
"""

from __future__ import annotations

from deepmusic.capsules.diagnostics import coupling_entropy, dead_share
from deepmusic.capsules.initialisation import fan_in_, init_to_length
from deepmusic.capsules.layers import CapsuleLayer, MaskedDecoder, PrimaryCapsules
from deepmusic.capsules.losses import margin_loss, reconstruction_loss
from deepmusic.capsules.routing import (
    ROUTING,
    RoutingRecord,
    dynamic_routing,
    dynamic_routing_folded,
    routing_method,
    uniform_routing,
    uniform_routing_folded,
)
from deepmusic.capsules.squash import capsule_length, squash, squash_exp

__all__ = [
    "ROUTING",
    "CapsuleLayer",
    "MaskedDecoder",
    "PrimaryCapsules",
    "RoutingRecord",
    "capsule_length",
    "coupling_entropy",
    "dead_share",
    "dynamic_routing",
    "dynamic_routing_folded",
    "fan_in_",
    "init_to_length",
    "margin_loss",
    "reconstruction_loss",
    "routing_method",
    "squash",
    "squash_exp",
    "uniform_routing",
    "uniform_routing_folded",
]
