"""Measure what an installation takes on disk, and write it into docs/install.md.

    python benchmarks/install_size.py [--before CHECKOUT]

Each row is a new virtual environment, `pip install -c constraints.txt ".[EXTRA]"` in it, and the
disk space of all of its files, pip and compiled modules included, as `du -sm` counts it. With the
extra `train`, the CPU build of PyTorch is installed first. CHECKOUT is one of a former commit,
whose plain installation is measured, too.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from docs_page import write_parts

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "install.md"
INSTALLED = ("", "features", "data", "study", "train", "study,train")
LARGEST = 10


def cpu_torch() -> str:
    """The version that the Makefile installs where there is no GPU."""
    (version,) = re.findall(r"^CPU_TORCH := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return version


def sizes(checkout: Path, extra: str = "", *, with_torch: bool = False) -> tuple[float, Counter]:
    """MB of a new environment, and of each package in it with the libraries that it bundles."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/pip", "install", "--quiet", "--disable-pip-version-check"]
        if with_torch:
            subprocess.run([*pip, cpu_torch()], check=True)
        wanted = f"{checkout}[{extra}]" if extra else str(checkout)
        subprocess.run([*pip, "-c", str(checkout / "constraints.txt"), wanted], check=True)
        packages: Counter[str] = Counter()
        total = 0
        for path in Path(folder).rglob("*"):
            if path.is_symlink():
                continue
            size = path.stat().st_blocks * 512
            total += size
            parts = path.parts
            if "site-packages" in parts and (rest := parts[parts.index("site-packages") + 1 :]):
                packages[rest[0].removesuffix(".libs")] += size
    return total / 2**20, Counter({name: size / 2**20 for name, size in packages.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    before = parser.parse_args().before
    rows, largest = [], ""
    for extra in INSTALLED:
        total, packages = sizes(ROOT, extra, with_torch="train" in extra)
        rows.append((f"`deepmusic-capsules[{extra}]`" if extra else "`deepmusic-capsules`", total))
        if not extra:
            listed = [f"{name} {size:.0f}" for name, size in packages.most_common(LARGEST)]
            largest = (
                f"The {LARGEST} largest packages of the plain installation: {', '.join(listed)} MB."
            )
    if before is not None:
        total, _ = sizes(before, with_torch=True)
        rows.append(("before there were extras (0.1.0 in development)", total))
    table = "\n".join(
        ["| installed | MB |", "|---|---|", *(f"| {n} | {mb:,.0f} |" for n, mb in rows)]
    )
    system = f"Python {platform.python_version()} on {platform.system()}, {cpu_torch()} for the CPU"
    figures = f"{table}\n\n{largest} {system}.\n"
    write_parts(PAGE, "benchmarks/install_size.py", {"figures": figures})
    print(figures)


if __name__ == "__main__":
    main()
