"""A classifier without a network, and ``python fake_classifier.py ARGS``: deepmusic with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deepmusic.classifier.verdict import GenreProbability, SegmentVerdict, Verdict
from deepmusic.errors import AudioError

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
COMMAND = [sys.executable, __file__]
GENRES = ("classical", "pop", "rock")


class FakeClassifier:
    """Reads its verdict off the first word of the file: a genre, ``unsure`` or how to fail."""

    genres = GENRES
    digest = "fake-1"
    has_segments = True

    def classify(self, source: str, *, max_seconds: float = 1e9, segments: bool = True) -> Verdict:
        content = Path(source).read_text(encoding="utf-8")
        time.sleep(float(os.environ.get("FAKE_SLEEP_S", "0")))
        word = content.split()[0] if content.split() else "nothing"
        if word == "memory":
            raise MemoryError
        if word == "bug":
            raise RuntimeError("a\nbug")
        if word == "interrupt":
            raise KeyboardInterrupt
        if word not in (*GENRES, "unsure", "lost"):
            raise AudioError(f"{source!r} is not a sound file.", code="not_audio")
        genre = word if word in GENRES else "pop"
        chances = {name: 0.7 if name == genre else 0.15 for name in GENRES}
        listed = tuple(GenreProbability(name, chances[name]) for name in GENRES)
        return Verdict(
            path=source,
            genre=None if word == "unsure" else genre,
            confidence=0.7,
            top=tuple(sorted(listed, key=lambda entry: -entry.probability)),
            duration_s=min(30.0, max_seconds),
            segments=tuple(
                SegmentVerdict(start, start + 3.0, listed, (0.1, 0.2, 0.3))
                for start in (0.0, 1.5, 3.0)
            )
            if segments
            else (),
            warning="1.0 s of sound was decoded." if word == "lost" else None,
        )


if __name__ == "__main__":
    import deepmusic.pretrained
    from deepmusic.cli import main

    deepmusic.pretrained.load = lambda *_, **__: FakeClassifier()  # type: ignore[attr-defined]
    main()
