"""The public names of every package are listed once, in its ``__init__.pyi``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
PACKAGES = sorted(
    ".".join(stub.parent.relative_to(SOURCE).parts)
    for stub in (SOURCE / "deepmusic").rglob("__init__.pyi")
)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there(package: str) -> None:
    module = import_module(package)
    assert module.__doc__
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


@pytest.mark.parametrize("package", PACKAGES)
def test_public_functions_and_classes_say_what_they_do(package: str) -> None:
    module = import_module(package)
    missing = [
        name
        for name in module.__all__
        if callable(getattr(module, name)) and not getattr(module, name).__doc__
    ]
    assert not missing
