"""The 518 features of FMA and what they are computed from: librosa's values without librosa.

Names are looked up on first use: column names alone need no compiler.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
