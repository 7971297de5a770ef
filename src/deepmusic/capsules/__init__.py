"""Capsule networks for PyTorch: routing, layers and losses, independent of music.

>>> layer = CapsuleLayer(1152, 8, 10, 16)
>>> poses, activations, coupling = layer(torch.randn(2, 1152, 8))
>>> loss = margin_loss(activations, torch.tensor([3, 7]))

Axes: b batch, p positions, i children, d their pose, o parents, h their pose.
"""

from deepmusic.extras import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
