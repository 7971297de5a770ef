"""One thread, so that sums are added in the same order every time."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent))  # for the tiny task, also in child processes
