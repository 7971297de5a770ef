"""Music as notes: scores, MIDI files, and the grid that models read and write.

What makes sound, pictures and notation of scores is looked up on first use.
"""

from deepmusic.extras import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
