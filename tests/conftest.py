"""What all tests share: the real data beside the repository, and one thread a process."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, which stays out of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the data folder ../shared/data is not on this machine")
    return SHARED_DATA
