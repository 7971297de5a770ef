"""The version, and the name under which the package is installed."""

__version__ = "0.1.0"

DISTRIBUTION = "deepmusic-capsules"
"""The name on PyPI; ``deepmusic`` there is somebody else's package."""


def pip_install(extra: str = "") -> str:
    """The command that installs this package, with one of its extras."""
    return f'pip install "{DISTRIBUTION}[{extra}]"' if extra else f"pip install {DISTRIBUTION}"
