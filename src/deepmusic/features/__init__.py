"""The 518 features of FMA and what they are computed from: librosa's values without librosa.

Names are looked up on first use: column names alone need no compiler.
"""

from deepmusic.extras import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "features")
