"""Music as notes: scores, MIDI files, and the grid that models read and write.

What makes sound, pictures and notation of scores is looked up on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
