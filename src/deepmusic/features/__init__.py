"""The 518 features of FMA and what they are made of, exact and fast; neither librosa nor torch.

Names are looked up on first use: whoever only wants column names loads no compiler.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
