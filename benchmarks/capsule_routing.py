"""CPU time of capsule routings, forward and backward, as ratios to plain dynamic routing.

One thread, process CPU time, variants interleaved, medians. Run it alone on the machine::

    OMP_NUM_THREADS=1 python benchmarks/capsule_routing.py --rounds 7
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from deepmusic.capsules import (
    RoutingRecord,
    dynamic_routing,
    dynamic_routing_folded,
    uniform_routing_folded,
)

VOTES = "bid,odih->bioh"


def variants(children: Tensor, weight: Tensor) -> dict[str, Callable[[], RoutingRecord]]:
    """What is compared, by name; the first is the unit of the ratios."""
    return {
        "dynamic, plain": lambda: dynamic_routing(torch.einsum(VOTES, children, weight)),
        "dynamic, plain, stopped": lambda: dynamic_routing(
            torch.einsum(VOTES, children, weight), stop_gradient=True
        ),
        "dynamic, folded": lambda: dynamic_routing_folded(children, weight),
        "dynamic, folded, stopped": lambda: dynamic_routing_folded(
            children, weight, stop_gradient=True
        ),
        "uniform, folded": lambda: uniform_routing_folded(children, weight),
    }


def cpu_ms(run: Callable[[], RoutingRecord], *leaves: Tensor) -> float:
    """Process CPU milliseconds of one forward and backward pass."""
    for leaf in leaves:
        leaf.grad = None
    start = time.process_time()
    run().poses.square().sum().backward()
    return 1000 * (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (
        ("children", 1152),
        ("in-dim", 8),
        ("parents", 10),
        ("out-dim", 16),
        ("batch", 64),
        ("rounds", 7),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    children = torch.randn(args.batch, args.children, args.in_dim, requires_grad=True)
    weight = 0.05 * torch.randn(args.parents, args.in_dim, args.children, args.out_dim)
    weight.requires_grad_()
    runs = variants(children, weight)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(args.rounds + 1):  # the first warms up
        for name, run in runs.items():
            elapsed = cpu_ms(run, children, weight)
            if round_number:
                times[name].append(elapsed)

    print(
        f"{args.children} x {args.in_dim} -> {args.parents} x {args.out_dim}, batch {args.batch}, "
        f"3 iterations, float32, forward + backward, torch {torch.__version__}, one thread"
    )
    unit = statistics.median(times["dynamic, plain"])
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"{name:26} {median:8.1f} ms  {unit / median:6.1f} x")


if __name__ == "__main__":
    main()
