"""Composing: capsules that read a style, a decoder that writes, and requests to them.

The public names are looked up on first use: requests, the style critic and the search for copies
work without PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
