"""Capsule networks for PyTorch: routing, layers, losses; nothing of it knows of music.

::

    layer = CapsuleLayer(1152, 8, 10, 16)
    poses, activations, coupling = layer(children)  # children: (b, 1152, 8)
    loss = margin_loss(activations, labels)

Axes: b batch, p places, i children, d their pose, o parents, h their pose.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
