"""The parts of a composer's network that write music, as graphs for onnxruntime.

A graph depends on the configuration alone: the weights stay beside it, by their names in
`ComposerNetwork`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import POSITION_SIZES
from deepmusic.composer.model import Batch, CapsuleEncoder, ComposerNetwork, Condition, StepDecoder
from deepmusic.training.onnx_graph import export_graph


class _Encoder(nn.Module):
    """From passages ``(n, passage_steps, 2 * e)`` bool to the styles' lengths and poses."""

    def __init__(self, encoder: CapsuleEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, passages: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self.encoder(passages.float())
        return encoded.lengths, encoded.poses


class _Step(nn.Module):
    """`StepDecoder.step` without the axis t, and with the memory as two tensors."""

    def __init__(self, decoder: StepDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self,
        before: Tensor,
        repeated: Tensor,
        match_level: Tensor,
        bar_ago: Tensor,
        positions: Tensor,
        styles: Tensor,
        poses: Tensor,
        is_minor: Tensor,
        hidden: Tensor,
        cell: Tensor,
    ) -> tuple[Tensor, ...]:
        no_target = repeated
        columns = (before, no_target, repeated, match_level, bar_ago, positions, is_minor)
        batch = Batch(*(column.unsqueeze(1) for column in columns))
        condition = Condition(styles, poses, is_minor)
        start, bias, memory = self.decoder.step(batch, condition, (hidden, cell))
        return start, bias, *memory


class _Symbol(nn.Module):
    """`NoteSetHead.next_symbol`."""

    def __init__(self, decoder: StepDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, start: Tensor, bias: Tensor, sets: Tensor, before: Tensor) -> Tensor:
        return self.decoder.head.next_symbol(start, bias, sets, before)


@lru_cache(maxsize=8)
def export_graphs(config: ComposerConfig) -> Mapping[str, bytes]:
    """The graphs of all networks of a configuration: ``encoder`` (if any), ``step``, ``symbol``.

    Raises:
        DeepMusicError: what exports (the extra ``train``) is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        network = ComposerNetwork(config).eval()
    rows = 2

    def flags(*shape: int) -> Tensor:
        return torch.zeros(rows, *shape, dtype=torch.bool)

    def numbers(*shape: int) -> Tensor:
        return torch.zeros(rows, *shape, dtype=torch.int64)

    y, styles = config.symbols, len(config.styles)
    step = {
        "before": torch.zeros(rows, 2 * config.elements),
        "repeated": flags(y),
        "match_level": numbers(config.parts),
        "bar_ago": flags(y),
        "positions": numbers(len(POSITION_SIZES)),
        "styles": torch.zeros(rows, styles),
        "poses": torch.zeros(rows, styles, config.pose_dim),
        "is_minor": flags(),
        "hidden": torch.zeros(rows, config.hidden),
        "cell": torch.zeros(rows, config.hidden),
    }
    symbol = {
        "start": torch.zeros(rows, config.head),
        "bias": torch.zeros(rows, y + 1),
        "sets": flags(y),
        "before": numbers(),
    }
    graphs = {
        "step": _exported(
            _Step(network.decoder), step, "start", "bias", "hidden_after", "cell_after"
        ),
        "symbol": _exported(_Symbol(network.decoder), symbol, "log_probs"),
    }
    if network.encoder is not None:
        passages = {"passages": flags(config.passage_steps, 2 * config.elements)}
        graphs["encoder"] = _exported(_Encoder(network.encoder), passages, "lengths", "poses")
    return graphs


def _exported(module: nn.Module, example: Mapping[str, Tensor], *outputs: str) -> bytes:
    return export_graph(
        module.eval(),
        tuple(example.values()),
        inputs=tuple(example),
        outputs=outputs,
        varying=[{0: "rows"}] * len(example),
    )
