"""Composing: capsules that listen, a decoder that writes, and what is asked of them.

The public names are looked up on first use: what asks and what judges does without PyTorch.

::

    composer = Composer.load("runs/mine")
    tune = composer.compose(Request(style={"folk": 1}, bars=16, seed=7))
    write_midi(tune.score, "tune.mid")
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
