"""Data sets: how to get them, what is in them, who belongs together, and splits that keep it.

The public names are looked up on first use, so that a command pays for what it needs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
