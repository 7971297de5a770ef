"""From a file to samples, log-mel frames and segments.

What decodes is looked up on first use: its libraries are loaded when there is a file to read.
"""

from deepmusic.extras import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
