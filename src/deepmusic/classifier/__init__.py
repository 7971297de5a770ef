"""The capsule classifier: from a recording to its genre, and from a folder of music to a model.

The public names are looked up on first use: what only shows or keeps verdicts does without torch.
"""

from deepmusic.extras import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
