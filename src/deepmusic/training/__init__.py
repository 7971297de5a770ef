"""Training a model: the loop, its checkpoints and its record; it knows none of our models.

The public names are looked up on first use: reading weights does without torch.
"""

from deepmusic.extras import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
