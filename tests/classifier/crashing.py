"""A classifier that can be pickled, and does in a worker what a file tells it to."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from deepmusic.classifier import GenreProbability, SegmentVerdict, Verdict
from deepmusic.errors import AudioError

ROCK = GenreProbability("rock", 1.0)


class Crashing:
    """Takes the first word of a file as its genre, or as a command; warns of its process."""

    is_picklable = True
    digest = "crashing"

    def __init__(self) -> None:
        self.classified: list[str] = []

    def classify(self, source: str, *, max_seconds: float, segments: bool) -> Verdict:
        command, _, rest = Path(source).read_text().partition(" ")
        self.classified.append(source)
        if command == "die" or (command == "die-once" and not os.path.exists(rest)):
            if rest:
                Path(rest).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == "refuse":
            raise AudioError(f"{source!r} is not a sound file.", code="not_audio")
        elif command == "bug":
            raise RuntimeError("a\nbug")
        elif command == "memory":
            raise MemoryError
        over_time = (SegmentVerdict(0.0, 3.0, (ROCK,), (0.5,)),) if segments else ()
        return Verdict(source, command, 1 / 3, (ROCK,), 1.0, over_time, warning=str(os.getpid()))
