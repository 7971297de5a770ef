"""Data sets: how to get them, what is in them, who belongs together, and splits that keep it.

The public names are looked up on first use, so that a command pays for what it needs.
"""

from deepmusic.extras import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "data")
