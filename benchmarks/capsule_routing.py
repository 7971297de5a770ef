"""Time and memory of capsule routing, forward and backward, as ratios to the common layer.

    python benchmarks/capsule_routing.py [--parts main,scaling,convolution,depth] [--rounds 5]
    python benchmarks/capsule_routing.py --device cuda

The common layer is written here for comparison: a broadcast matrix product that builds every vote,
and with it a copy of the weights for each item of the batch. Only the named parts are measured;
results of earlier calls are kept. Run it alone on the machine; ``--rounds 1`` is a quick try.

Time is process CPU time of one thread, variants interleaved, medians. Memory is the growth of the
peak resident size over one forward and backward pass, gradients included, each variant in a fresh
process that has run the same at a tiny size before (Linux; the peak is reset by
``/proc/self/clear_refs``). There glibc is set to return all large freed blocks to the system: by
default it keeps some of them, at random; for the variants with a target the median of default runs
is reported too. On a GPU, time is that between CUDA events, and memory the growth of the peak that
torch has allocated.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deepmusic.capsules import (
    ROUTING,
    CapsuleLayer,
    CapsuleStack,
    ConvCapsules,
    RoutingRecord,
    capsule_length,
    coupling_entropy,
    fan_in_,
    init_stack_to_length,
    margin_loss,
    squash,
)
from deepmusic.capsules.routing.method import Sizes
from deepmusic.errors import ShapeError
from deepmusic.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
SEED = 0
VOTES = "bid,ohdi->bioh"
MIB = 1 << 20
MOST_GIB = 8  # variants that need more are skipped: they would take minutes, too
SLOW_S = 5.0  # slower variants are measured once
# glibc's thresholds as they are at first: it would raise them as large blocks are freed
HANDING_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
WORTH_REPEATING_S = 0.1  # faster variants are measured several times per round
Row = dict[str, Any]


class Dense(NamedTuple):
    """A layer of :class:`~deepmusic.capsules.CapsuleLayer`."""

    children: int = 1152
    in_dim: int = 8
    parents: int = 10
    out_dim: int = 16
    batch: int = 64

    def tiny(self) -> Dense:
        return Dense(16, self.in_dim, 4, self.out_dim, 2)

    def votes(self) -> int:
        """The number of elements of all votes."""
        return self.batch * self.children * self.parents * self.out_dim


class Grid(NamedTuple):
    """A layer of :class:`~deepmusic.capsules.ConvCapsules`."""

    side: int = 14
    types: int = 8
    in_dim: int = 8
    parents: int = 16
    out_dim: int = 8
    batch: int = 16
    kernel: int = 3
    stride: int = 2

    def tiny(self) -> Grid:
        return Grid(5, 2, self.in_dim, 2, self.out_dim, 1, self.kernel, self.stride)

    def votes(self) -> int:
        """The number of elements of all votes."""
        positions = ((self.side - self.kernel) // self.stride + 1) ** 2
        window = self.kernel**2 * self.types
        return self.batch * positions * window * self.parents * self.out_dim


Case = Dense | Grid


class Variant(NamedTuple):
    """One way to compute a layer.

    Of a dense layer form is "broadcast", "plain", "folded" or "products", of a convolutional one
    "competing" or "alone".
    """

    method: str
    form: str = "folded"
    stopped: bool = False

    @property
    def name(self) -> str:
        return ", ".join([self.method, self.form, *(["stopped"] if self.stopped else [])])


USUAL = Variant("dynamic", "broadcast")
PRODUCTS = Variant("uniform", "products")
STOPPED, FULL = Variant("dynamic", stopped=True), Variant("dynamic")
MAIN = [
    USUAL,
    Variant("dynamic", "broadcast", True),
    Variant("dynamic", "plain"),
    Variant("dynamic", "plain", True),
    Variant("self_attention", "plain"),
    STOPPED,
    *(Variant(method) for method in ROUTING),
    PRODUCTS,
]
GROWING = [STOPPED, FULL, Variant("self_attention"), Variant("uniform"), Variant("em")]
SCALES: dict[str, tuple[int, ...]] = {
    "children": (128, 512, 2048, 8192),
    "parents": (4, 10, 40, 161),
    "batch": (1, 16, 64, 256),
}
CONVOLUTIONAL = [
    Variant(method, form, stopped)
    for method in ROUTING
    for stopped in ([True, False] if method == "dynamic" else [False])
    for form in ("competing", "alone")
]
GROWING_GRID = [Variant(method, "competing", stopped) for method, _, stopped in GROWING]
GRID_SCALES: dict[str, tuple[int, ...]] = {
    "side": (7, 14, 28),
    "parents": (4, 16, 64),
    "batch": (1, 16, 64),
}


class Job(NamedTuple):
    """A forward and backward pass, and the tensors that get gradients."""

    step: Callable[[], None]
    leaves: list[Tensor]

    def run(self) -> None:
        self.step()

    def clear(self) -> None:
        for leaf in self.leaves:
            leaf.grad = None


def broadcast_routing(
    children: Tensor, weight: Tensor, iterations: int = 3, *, stop_gradient: bool = False
) -> RoutingRecord:
    """Dynamic routing as most public code has it: children (b, i, d), weight (1, i, o, h, d)."""
    # the weights are spread over the batch and copied, 5.6 MiB per item at the size of the paper
    votes = torch.matmul(weight, children[:, :, None, :, None])  # (b, i, o, h, 1)
    constant = votes.detach() if stop_gradient else votes
    logits = votes.new_zeros(*votes.shape[:3], 1, 1)
    for _ in range(iterations - 1):
        poses = _short((logits.softmax(dim=2) * constant).sum(dim=1, keepdim=True))
        logits = logits + (constant * poses).sum(dim=3, keepdim=True)
    coupling = logits.softmax(dim=2)
    poses = _short((coupling * votes).sum(dim=1, keepdim=True))[:, 0, :, :, 0]  # (b, o, h)
    return RoutingRecord(poses, poses.square().sum(dim=2).add(1e-12).sqrt(), coupling[..., 0, 0])


def _short(pose: Tensor) -> Tensor:
    energy = pose.square().sum(dim=3, keepdim=True)
    return energy / (1 + energy) * pose / (energy + 1e-12).sqrt()


def prepare(variant: Variant, case: Case, device: str) -> Job:
    """A variant ready to run; all variants of one case get the same numbers."""
    torch.manual_seed(SEED)
    if isinstance(case, Grid):
        return _convolution(variant, case, device)
    batch, count, in_dim = case.batch, case.children, case.in_dim
    children = squash(torch.randn(batch, count, in_dim)).to(device).requires_grad_()
    weight = fan_in_(torch.empty(case.parents, case.out_dim, in_dim, count)).to(device)
    if variant.form == "products":
        return Job(functools.partial(_three_products, children.detach(), weight), [])
    method = ROUTING[variant.method]
    if variant.form == "broadcast":
        weight = weight.permute(3, 0, 1, 2).unsqueeze(0).contiguous()  # (1, i, o, h, d)
    leaves = [children, weight.requires_grad_()]
    if variant.form == "broadcast":
        return _job(
            lambda: broadcast_routing(children, weight, stop_gradient=variant.stopped), leaves
        )
    given: dict[str, Any] = {
        name: value.to(device).requires_grad_()
        for name, value in method.learned(Sizes(count, in_dim, case.parents, case.out_dim)).items()
    }
    leaves += given.values()
    if variant.stopped:
        given["stop_gradient"] = True
    passes = method.iterations

    def present() -> dict[str, Tensor]:  # as CapsuleLayer does
        if "activations" not in method.options:
            return {}
        return {"activations": capsule_length(children).clamp(max=1)}

    if variant.form == "plain":
        return _job(
            lambda: method.route(
                torch.einsum(VOTES, children, weight), passes, **given, **present()
            ),
            leaves,
        )
    return _job(lambda: method(children, weight, passes, **given, **present()), leaves)


def _convolution(variant: Variant, case: Grid, device: str) -> Job:
    children = torch.randn(case.batch, case.side, case.side, case.types, case.in_dim)
    children = squash(children).to(device).requires_grad_()
    layer = ConvCapsules(
        case.types,
        case.in_dim,
        case.parents,
        case.out_dim,
        kernel_size=case.kernel,
        stride=case.stride,
        competition=variant.form == "competing",
        routing=variant.method,
        stop_gradient=variant.stopped,
    ).to(device)
    return _job(lambda: layer(children), [children, *layer.parameters()])


def _job(route: Callable[[], RoutingRecord], leaves: list[Tensor]) -> Job:
    def step() -> None:
        record = route()
        (record.poses.square().sum() + record.activations.sum()).backward()

    return Job(step, leaves)


def _three_products(children: Tensor, weight: Tensor) -> None:
    """What uniform couplings need at least: the sum of votes and its gradients to both factors."""
    flat = children.flatten(1)  # (b, i*d)
    matrix = weight.flatten(2).flatten(0, 1)  # (o*h, d*i)
    summed = flat @ matrix.t()  # (b, o*h)
    to_children, to_weight = summed @ matrix, summed.t() @ flat
    del to_children, to_weight


def seconds(job: Job, device: str) -> float:
    """CPU seconds of one run, or seconds on the GPU."""
    job.clear()
    if device == "cpu":
        start = time.process_time()
        job.run()
        return time.process_time() - start
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    events[0].record()
    job.run()
    events[1].record()
    torch.cuda.synchronize()
    return float(events[0].elapsed_time(events[1])) / 1000


def measure_times(
    variants: Iterable[Variant], case: Case, rounds: int, device: str
) -> dict[Variant, float]:
    """Median milliseconds of each variant, one after another in every round."""
    jobs, times, repeats = {}, {}, {}
    for variant in variants:
        for _ in range(3):
            seconds(prepare(variant, case.tiny(), device), device)
        job = prepare(variant, case, device)
        first = seconds(job, device)  # a warm-up, unless it is slow
        job.clear()
        jobs[variant], times[variant] = job, [first] if first > SLOW_S else []
        repeats[variant] = min(10, max(1, int(WORTH_REPEATING_S / first)))
    for _ in range(rounds):
        for variant, job in jobs.items():
            if times[variant] and times[variant][0] > SLOW_S:
                continue
            times[variant] += [seconds(job, device) for _ in range(repeats[variant])]
            job.clear()
    return {variant: 1000 * statistics.median(taken) for variant, taken in times.items()}


@functools.cache
def measure_memory(variant: Variant, case: Case, device: str) -> float:
    """MiB that one run adds at most; on the CPU in a process of its own."""
    return _cpu_mib(variant, case, HANDING_BACK) if device == "cpu" else _cuda_mib(variant, case)


def _cpu_mib(variant: Variant, case: Case, allocator: dict[str, str]) -> float:
    numbers = [str(number) for number in case]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | allocator
    done = subprocess.run(
        [
            *(sys.executable, os.fspath(Path(__file__).resolve())),
            *("--memory-of", variant.name, "--case", type(case).__name__, *numbers),
        ],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(done.stdout)


def _cuda_mib(variant: Variant, case: Case) -> float:
    prepare(variant, case.tiny(), "cuda").run()
    job = prepare(variant, case, "cuda")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    job.run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def memory_here(variant: Variant, case: Case) -> float:
    """MiB that one run adds to this process at most."""
    torch.set_num_threads(1)
    tiny = prepare(variant, case.tiny(), "cpu")
    tiny.run()  # kernels are loaded now
    job = prepare(variant, case, "cpu")
    before = _fresh_peak_mib()
    job.run()
    return _peak_mib() - before


def _fresh_peak_mib() -> float:
    """The peak so far, reset first if the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("the peak is not reset: small figures may read 0", file=sys.stderr)
    return _peak_mib()


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    unit = MIB if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def fits(variant: Variant, case: Case, device: str) -> bool:
    """Whether a variant that builds votes needs few GiB and at most half of the free memory."""
    if variant.method not in ("em", "variational"):
        return True
    needed = 16 * 4 * case.votes()  # about 15 copies of the votes, measured
    if device != "cpu":
        return needed < torch.cuda.mem_get_info()[0] / 2
    info = Path("/proc/meminfo")
    free = info.read_text().split("MemAvailable:")[1].split()[0] if info.exists() else 8 << 20
    return needed < min(MOST_GIB << 30, 1024 * int(free) / 2)


def measure_main(rounds: int, device: str) -> Row:
    """All methods at the size of the paper, and the usual layer."""
    case = Dense()
    times = measure_times(MAIN, case, rounds, device)
    rows = []
    for variant, ms in times.items():
        mib = measure_memory(variant, case, device)
        rows.append(
            {
                **described(variant, case, ms, mib),
                "faster": round(times[USUAL] / ms, 2),
                "leaner": round(measure_memory(USUAL, case, device) / max(mib, 0.01), 2),
            }
        )
        print(terminal(rows[-1]), flush=True)
    record = {"case": case._asdict(), "agreement": largest_difference(), "rows": rows}
    if device == "cpu":  # the targets were set for a CPU
        left_alone = {
            variant: statistics.median(_cpu_mib(variant, case, {}) for _ in range(5))
            for variant in (USUAL, STOPPED, FULL)
        }
        record["targets"] = targets(rows, left_alone)
    return record


def targets(rows: Sequence[Row], left_alone: dict[Variant, float]) -> list[Row]:
    """Figures with targets; memory also with the default allocator."""
    by_name = {row["variant"]: row for row in rows}
    stopped, full = by_name[STOPPED.name], by_name[FULL.name]
    attention = by_name[Variant("self_attention").name]
    uniform = by_name[Variant("uniform").name]
    of_products = uniform["ms"] / by_name[PRODUCTS.name]["ms"]
    faster, leaner = "times faster than the usual layer", "times less memory"
    usual = left_alone[USUAL]
    kept = "times less memory, allocator left alone"
    return [
        figure(f"dynamic, gradient stopped: {faster}", stopped["faster"], least=30),
        figure(f"dynamic, gradient stopped: {leaner}", stopped["leaner"], least=30),
        figure(f"dynamic, gradient stopped: {kept}", usual / left_alone[STOPPED], least=30),
        figure(f"dynamic, full gradient: {faster}", full["faster"], least=10),
        figure(f"dynamic, full gradient: {leaner}", full["leaner"], least=8),
        figure(f"dynamic, full gradient: {kept}", usual / left_alone[FULL], least=8),
        figure(f"self_attention: {faster}", attention["faster"], least=17),
        figure("uniform: time, in times of its three matrix products", of_products, most=2),
    ]


def figure(
    what: str, value: float, *, most: float | None = None, least: float | None = None
) -> Row:
    """One measured value and its target, an upper or a lower bound."""
    record: Row = {"what": what, "value": round(value, 3)}
    if most is not None:
        record |= {"target": f"at most {most:g}", "met": value <= most}
    if least is not None:
        record |= {"target": f"at least {least:g}", "met": value >= least}
    return record


def largest_difference() -> float:
    """Between the usual layer and the folded form: poses and gradients at a small size.

    Raises:
        SystemExit: they do not compute the same, so their times cannot be compared.
    """
    worst = 0.0
    for stopped in (False, True):
        torch.manual_seed(SEED)
        children = squash(torch.randn(3, 20, 4)).requires_grad_()
        weight = fan_in_(torch.empty(5, 6, 4, 20)).requires_grad_()
        found = []
        for record in (
            broadcast_routing(
                children, weight.permute(3, 0, 1, 2).unsqueeze(0), stop_gradient=stopped
            ),
            ROUTING["dynamic"](children, weight, 3, stop_gradient=stopped),
        ):
            gradients = torch.autograd.grad(record.poses.square().sum(), [children, weight])
            found.append([record.poses.detach(), *gradients])
        worst = max(worst, *(float((a - b).abs().max()) for a, b in zip(*found, strict=True)))
    if worst > 1e-4:
        raise SystemExit(f"the usual layer and the folded form differ by {worst}")
    return worst


def measure_growth(
    base: Case,
    scales: dict[str, tuple[int, ...]],
    variants: Sequence[Variant],
    rounds: int,
    device: str,
) -> list[Row]:
    """Time and memory as one size grows and the others stay."""
    rows: list[Row] = []
    measured: dict[Case, list[Row]] = {}  # the base is a point of several scales
    for scale, sizes in scales.items():
        for size in sizes:
            case = base._replace(**{scale: size})
            if case not in measured:
                possible = [variant for variant in variants if fits(variant, case, device)]
                times = measure_times(possible, case, min(rounds, 3), device)
                measured[case] = [
                    described(v, case, times[v], measure_memory(v, case, device))
                    if v in times
                    else described(v, case, None, None)
                    for v in variants
                ]
            for row in measured[case]:
                rows.append({"scale": scale, "size": size, **row})
                print(f"{scale:9}{size:6}  {terminal(row)}", flush=True)
    return rows


def measure_scaling(rounds: int, device: str) -> Row:
    """Dense layers of many sizes."""
    rows = measure_growth(Dense(), SCALES, GROWING, rounds, device)
    return {"case": Dense()._asdict(), "rows": rows}


def measure_convolution(rounds: int, device: str) -> Row:
    """All methods on a grid, windows competing or not, and how it grows."""
    case = Grid()
    rows = []
    for variant, ms in measure_times(CONVOLUTIONAL, case, rounds, device).items():
        rows.append(described(variant, case, ms, measure_memory(variant, case, device)))
        print(terminal(rows[-1]), flush=True)
    growth = measure_growth(case, GRID_SCALES, GROWING_GRID, rounds, device)
    return {"case": case._asdict(), "rows": rows, "growth": growth}


def described(variant: Variant, case: Case, ms: float | None, mib: float | None) -> Row:
    """One row; the size that all votes would have is there to compare memory with."""
    return {
        "variant": variant.name,
        "method": variant.method,
        "form": variant.form,
        "stopped": variant.stopped,
        "ms": None if ms is None else round(ms, 3),
        "mib": None if mib is None else round(mib, 2),
        "votes_mib": round(4 * case.votes() / MIB, 2),
    }


LAYERS, CAPSULES, DIM, CLASSES, DEPTH_SEEDS = 6, 16, 8, 10, 5
DEEP: dict[str, dict[str, Any]] = {
    "dynamic": {"routing": "dynamic"},
    "dynamic, residual": {"routing": "dynamic", "residual": True},
    "self_attention": {"routing": "self_attention"},
    "uniform": {"routing": "uniform"},
    "inverted_attention": {"routing": "inverted_attention"},
}
STARTS = {
    "fan-in": "as the layers are made",
    "to length": "then `init_stack_to_length`",
    "0.01": "normal, standard deviation 0.01",
}


def measure_depth(rounds: int, device: str) -> Row:
    """How much gradient reaches the first layer of a stack, by routing and initialization."""
    rows = []
    for name, options in DEEP.items():
        for start in STARTS:
            if start == "to length" and name == "inverted_attention":
                continue  # its layer norm sets the length
            try:
                found = [_descent(options, start, SEED + k, device) for k in range(DEPTH_SEEDS)]
            except ShapeError as error:
                rows.append({"routing": name, "start": start, "error": str(error)})
                continue
            row: Row = {"routing": name, "start": start}
            for key in ("ratio", "plain_ratio", "first", "last"):
                values = [one[key] for one in found]
                row[key] = None if None in values else float(f"{statistics.median(values):.4g}")
            for key in ("lengths", "entropies"):
                by_layer = zip(*(one[key] for one in found), strict=True)
                row[key] = [round(statistics.mean(layer), 4) for layer in by_layer]
            rows.append(row)
            ratio = "none" if row["ratio"] is None else f"{row['ratio']:.2e}"
            print(f"{name:20}{start:10} first to last {ratio:>9}  lengths {row['lengths']}")
    return {
        "layers": LAYERS,
        "capsules": CAPSULES,
        "dim": DIM,
        "batch": 64,
        "seeds": DEPTH_SEEDS,
        "starts": STARTS,
        "rows": rows,
    }


def _descent(options: dict[str, Any], start: str, seed: int, device: str) -> Row:
    torch.manual_seed(seed)
    children = squash(torch.randn(64, CAPSULES, DIM)).to(device)
    labels = torch.randint(CLASSES, (64,)).to(device)
    stack = CapsuleStack(
        [CapsuleLayer(CAPSULES, DIM, CAPSULES, DIM, **options) for _ in range(LAYERS)]
    ).to(device)
    weights = [layer.weight for layer in stack.layers if isinstance(layer, CapsuleLayer)]
    if start == "to length":
        init_stack_to_length(stack.layers, children)
    elif start == "0.01":
        for weight in weights:
            nn.init.normal_(weight, std=0.01)
    records = stack(children)
    margin_loss(records[-1].activations[:, :CLASSES], labels).backward()
    # in float64: squares of gradients that vanish are below what float32 holds
    sizes = [float(weight.detach().double().norm()) for weight in weights]
    pulls = [float(w.grad.double().norm()) for w in weights if w.grad is not None]
    first, last = pulls[0] / sizes[0], pulls[-1] / sizes[-1]
    return {
        "first": first,
        "last": last,
        "ratio": first / last if last else None,
        "plain_ratio": pulls[0] / pulls[-1] if last else None,
        "lengths": [float(capsule_length(record.poses.detach()).mean()) for record in records],
        "entropies": [float(coupling_entropy(record.coupling)) for record in records],
    }


PARTS: dict[str, Callable[[int, str], Row]] = {
    "main": measure_main,
    "scaling": measure_scaling,
    "convolution": measure_convolution,
    "depth": measure_depth,
}


def machine(device: str) -> str:
    """The machine in words."""
    name = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        lines = cpu_info.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    gpu = f"{torch.cuda.get_device_name()}, " if device == "cuda" else ""
    return (
        f"{gpu}{name}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def terminal(row: Row) -> str:
    if row["ms"] is None:
        return f"{row['variant']:30} left out: too large"
    text = f"{row['variant']:30}{row['ms']:10.2f} ms{row['mib']:9.1f} MiB"
    if "faster" in row:
        text += f"{row['faster']:8.1f} x faster{row['leaner']:8.1f} x leaner"
    return text


def case_of(words: Sequence[str]) -> Case:
    kind: type[Dense] | type[Grid] = {"Dense": Dense, "Grid": Grid}[words[0]]
    return kind(*map(int, words[1:]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, default=ROOT / "docs/measured/capsule_routing.json")
    parser.add_argument("--memory-of", help="print the MiB of one variant, measured here")
    parser.add_argument("--case", nargs="+", help="its sizes: Dense or Grid, then the numbers")
    options = parser.parse_args()
    if options.memory_of:
        everything = {v.name: v for v in (*MAIN, *CONVOLUTIONAL)}
        print(memory_here(everything[options.memory_of], case_of(options.case or ["Dense"])))
        return 0
    wanted = options.parts.split(",")
    if unknown := [part for part in wanted if part not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use")

    torch.set_num_threads(1)
    known = json.loads(options.json.read_text()) if options.json.exists() else {}
    parts = known.get(options.device, {})
    for name in (part for part in PARTS if part in wanted):
        load_before = os.getloadavg()[0]  # over the last minute: above 0.5 the machine is not idle
        start = time.perf_counter()
        parts[name] = {
            **PARTS[name](options.rounds, options.device),
            "rounds": options.rounds,
            "seed": SEED,
            "machine": machine(options.device),
            "load_before": round(load_before, 2),
            "load_after": round(os.getloadavg()[0], 2),
            "seconds": round(time.perf_counter() - start),
        }
        known[options.device] = {part: parts[part] for part in PARTS if part in parts}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(options.json) as file:  # finished parts are kept
            json.dump(known, file, indent=1)
            file.write("\n")
        for target in parts[name].get("targets", []):
            met = "met" if target["met"] else "MISSED"
            print(f"{target['what']:<72}{target['value']:>8.2f}  {target['target']} ({met})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
