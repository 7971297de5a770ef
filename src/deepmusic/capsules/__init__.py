"""Capsule networks for PyTorch: routing, layers, losses; nothing of it knows of music.

::

    layer = CapsuleLayer(1152, 8, 10, 16)
    poses, activations, coupling = layer(children)  # children: (b, 1152, 8)
    loss = margin_loss(activations, labels)

Axes: b batch, p places, i children, d their pose, o parents, h their pose.
"""

from __future__ import annotations

from deepmusic.capsules.convolution import ConvCapsules, TimeCapsules
from deepmusic.capsules.diagnostics import coupling_entropy, dead_share
from deepmusic.capsules.initialisation import fan_in_, init_stack_to_length, init_to_length
from deepmusic.capsules.layers import CapsuleLayer, CapsuleStack, MaskedDecoder, PrimaryCapsules
from deepmusic.capsules.losses import (
    margin_loss,
    reconstruction_loss,
    spread_loss,
    spread_margin,
)
from deepmusic.capsules.routing import (
    ROUTING,
    RoutingRecord,
    dynamic_routing,
    dynamic_routing_folded,
    em_routing,
    em_routing_folded,
    inverted_attention_routing,
    inverted_attention_routing_folded,
    routing_method,
    self_attention_routing,
    self_attention_routing_folded,
    self_routing,
    self_routing_folded,
    uniform_routing,
    uniform_routing_folded,
    variational_routing,
    variational_routing_folded,
)
from deepmusic.capsules.routing.competition import window_competition
from deepmusic.capsules.squash import capsule_length, squash, squash_exp

__all__ = [
    "ROUTING",
    "CapsuleLayer",
    "CapsuleStack",
    "ConvCapsules",
    "MaskedDecoder",
    "PrimaryCapsules",
    "RoutingRecord",
    "TimeCapsules",
    "capsule_length",
    "coupling_entropy",
    "dead_share",
    "dynamic_routing",
    "dynamic_routing_folded",
    "em_routing",
    "em_routing_folded",
    "fan_in_",
    "init_stack_to_length",
    "init_to_length",
    "inverted_attention_routing",
    "inverted_attention_routing_folded",
    "margin_loss",
    "reconstruction_loss",
    "routing_method",
    "self_attention_routing",
    "self_attention_routing_folded",
    "self_routing",
    "self_routing_folded",
    "spread_loss",
    "spread_margin",
    "squash",
    "squash_exp",
    "uniform_routing",
    "uniform_routing_folded",
    "variational_routing",
    "variational_routing_folded",
    "window_competition",
]
