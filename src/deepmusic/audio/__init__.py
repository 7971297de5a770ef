"""From a file to samples, log-mel frames and segments.

What decodes is looked up on first use: its libraries are loaded when there is a file to read.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
