"""Public names of a package that are looked up on first use: who needs one does not pay for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, public: Iterable[str], modules: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """What a package takes for its ``__getattr__`` and ``__dir__`` (PEP 562).

    Args:
        package: its ``__name__``.
        public: its ``__all__``.
        modules: its submodules, each with the names that are looked up there.
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def look_up(name: str) -> Any:
        if name in module_of:
            return getattr(import_module(f"{package}.{module_of[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return look_up, lambda: sorted(public)
