"""``python -m deepmusic``: the same as the ``deepmusic`` command."""

from __future__ import annotations

from deepmusic.cli import run

run()
