"""Composing: capsules that read a style, a decoder that writes, and requests to them.

The public names are looked up on first use: composing, the style critic and the search for copies
work without PyTorch.
"""

from deepmusic.extras import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
