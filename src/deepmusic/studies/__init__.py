"""The study: models compared on the same folds, in one direction.

``data`` (tracks, columns, spectrograms) -> ``plan`` (folds, jobs) -> ``jobs`` (train, test, store)
-> ``comparison`` (scores, differences) -> ``report`` (all figures) -> ``report_pictures`` and
``report_pages``, which ``report_files`` writes.
"""

from deepmusic.extras import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, "study")
