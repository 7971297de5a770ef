"""Hear music and write it with capsule neural networks.

The public names are looked up on first use, so that ``import deepmusic`` stays fast and free of
torch::

    import deepmusic

    verdict = deepmusic.classify("song.mp3")
    print(verdict.genre, verdict.confidence)

    tune = deepmusic.generate("folk", bars=16, seed=7)
    deepmusic.music.write_midi(tune.score, "tune.mid")
"""

from deepmusic.extras import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
