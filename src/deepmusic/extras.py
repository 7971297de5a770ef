"""Libraries that only some functions need, and which extra of the package brings them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import lazy_loader

from deepmusic.errors import MissingLibraryError
from deepmusic.version import pip_install

LIBRARIES = {
    "torch": "PyTorch",
    "accelerate": "Accelerate",
    "onnx": "ONNX",
    "onnxscript": "ONNX Script",
    "numba": "Numba",
    "pandas": "pandas",
    "pyarrow": "PyArrow",
    "scipy": "SciPy",
    "sklearn": "scikit-learn",
    "jinja2": "Jinja",
    "skops": "skops",
    "partitura": "partitura",
    "yaml": "PyYAML",
    "distributed": "Dask",
}
"""By module that is imported: the name of its library."""

EXTRAS = {
    "train": ("torch", "accelerate", "onnx", "onnxscript", "scipy", "sklearn"),
    "features": ("numba", "pyarrow", "scipy"),
    "data": ("pandas", "pyarrow", "scipy", "sklearn"),
    "study": ("numba", "pandas", "pyarrow", "scipy", "sklearn", "jinja2", "skops"),
    "musicxml": ("partitura",),
    "yaml": ("yaml",),
    "cluster": ("distributed",),
}
"""The modules that each extra brings."""


def missing_modules(extra: str) -> list[str]:
    """The modules of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if find_spec(name) is None]


def need(extra: str) -> None:
    """Check, before any work, that the libraries of an extra are installed; imports none of them.

    Raises:
        MissingLibraryError: the first that is not, and how to install the extra.
    """
    for name in missing_modules(extra):
        raise _missing(name, extra)


@contextmanager
def explained(extra: str = "train") -> Iterator[None]:
    """Turn the error of an import into one that says which extra brings the module.

    Args:
        extra: the one to name if it brings the module; otherwise the first that does.

    Raises:
        MissingLibraryError: a library of an extra is not installed.
    """
    try:
        yield
    except MissingLibraryError:
        raise
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        for name in (extra, *EXTRAS):
            if module in EXTRAS[name]:
                raise _missing(module, name) from error
        raise


def _missing(module: str, extra: str) -> MissingLibraryError:
    return MissingLibraryError(f"This needs {LIBRARIES[module]}: {pip_install(extra)}", name=module)


def lazy_names(
    package: str, file: str, extra: str = "train"
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package whose names its stub lists.

    A name is imported when it is first used. Where that needs a library that is not installed,
    `MissingLibraryError` says which extra brings it.

    Args:
        package: its ``__name__``.
        file: its ``__file__``.
        extra: the one that the package needs in the first place.
    """
    look_up, names, public = lazy_loader.attach_stub(package, file)

    def look_up_or_explain(name: str) -> Any:
        with explained(extra):
            return look_up(name)

    return look_up_or_explain, names, public
