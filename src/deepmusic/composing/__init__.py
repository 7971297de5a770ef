"""Composing: distributions over the sets of notes that sound together.

::

    head = NoteSetHead(context_dim=200)
    log_prob = head(context, roll)          # (n, 200), (n, 88) -> (n,), exact
    chords = head.sample(context)           # (n, 88)
"""

from __future__ import annotations

from deepmusic.composing.note_sets import NoteSetHead, spelled

__all__ = ["NoteSetHead", "spelled"]
