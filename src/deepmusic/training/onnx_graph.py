"""Networks that run under onnxruntime, without PyTorch.

A network is defined once, in PyTorch, and exported: its graph depends on its configuration alone,
and its weights are given to the session beside it (external initializers). So one file of weights
serves both libraries, and a graph can be shipped without weights.
"""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import CheckpointError, DeepMusicError
from deepmusic.extras import need
from deepmusic.version import pip_install

if TYPE_CHECKING:
    from torch import Tensor, nn

_OPSET = 18


class OnnxNetwork:
    """An exported network with its weights, in one thread; several threads may call it.

    Args:
        graph: what `export_graph` gave.
        weights: arrays by name, as in the state of the network in PyTorch; floating ones are
            given to the session as float32. Those that the graph does not read are ignored.

    Raises:
        CheckpointError: the weights do not fit the graph.
        DeepMusicError: onnxruntime is missing or too old.
    """

    def __init__(self, graph: bytes, weights: Mapping[str, NDArray[Any]]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise DeepMusicError(
                f"onnxruntime cannot be loaded ({error}); install it: {pip_install()}."
            ) from error
        self._graph = graph
        self._weights = {
            name: np.asarray(array, np.float32 if array.dtype.kind == "f" else None, order="C")
            for name, array in weights.items()
            if _reads(graph, name)
        }
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        values = map(onnxruntime.OrtValue.ortvalue_from_numpy, self._weights.values())
        options.add_external_initializers(list(self._weights), list(values))
        try:
            self._session = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a class for each of its codes, and no base
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"the weights do not fit the network, or onnxruntime {onnxruntime.__version__} is "
                f"too old for it ({reason[:200]})"
            ) from error
        self.inputs = tuple(entry.name for entry in self._session.get_inputs())

    def __reduce__(self) -> tuple[Any, ...]:
        return OnnxNetwork, (self._graph, self._weights)

    def __call__(self, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs for inputs in the order of the graph."""
        outputs: list[NDArray[Any]] = self._session.run(
            None, dict(zip(self.inputs, inputs, strict=True))
        )
        return outputs


def _reads(graph: bytes, name: str) -> bool:
    """Whether a graph has an initializer of this name: the session refuses all others.

    The name is field 8 of a TensorProto; onnxruntime cannot say so, and onnx is not needed to run.
    """
    encoded = name.encode()
    return bytes([8 << 3 | 2, len(encoded)]) + encoded in graph


def export_graph(
    network: nn.Module,
    example: Sequence[Tensor],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    varying: Sequence[Mapping[int, str]],
    traced: bool = False,
) -> bytes:
    """The ONNX graph of a network in evaluation mode, without its weights.

    Args:
        network: in evaluation mode; its parameters and buffers become external initializers by
            their names.
        example: one tensor per input; axes that vary need two entries or more.
        inputs: their names.
        outputs: their names.
        varying: for each input the axes whose length is not fixed, and a name for each length.
        traced: record one run, which takes a tenth of the time; for networks of which no branch
            and no factor depends on an axis that varies.

    Raises:
        MissingLibraryError: what exports (the extra ``train``) is not installed.
        DeepMusicError: ONNX has no operator for something in the network.
    """
    need("train")
    import onnx
    import torch

    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        export = _trace if traced else _program
        try:
            model = export(network, tuple(example), list(inputs), list(outputs), varying)
        except torch.onnx.errors.OnnxExporterError as error:
            cause = str(error.__cause__ or error).strip().partition("\n")[0]
            raise DeepMusicError(f"this network cannot be exported to ONNX: {cause}") from error
    weights = network.state_dict()
    for initializer in model.graph.initializer:
        if initializer.name in weights:
            initializer.ClearField("raw_data")
            initializer.data_location = onnx.TensorProto.EXTERNAL
            initializer.external_data.add(key="location", value="weights")
    _strip(model)
    graph: bytes = model.SerializeToString()
    return graph


def _program(
    network: nn.Module,
    example: tuple[Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    varying: Sequence[Mapping[int, str]],
) -> Any:
    """The model by torch.export, which follows every length that varies."""
    import torch

    program = torch.onnx.export(
        network,
        example,
        dynamo=True,
        optimize=False,  # would fold weights into the graph; the session optimizes
        verbose=False,
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes=tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in varying),
    )
    assert program is not None
    return program.model_proto


def _trace(
    network: nn.Module,
    example: tuple[Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    varying: Sequence[Mapping[int, str]],
) -> Any:
    """The model by tracing."""
    import onnx
    import torch
    from torch.onnx import register_custom_op_symbolic  # type: ignore[attr-defined]

    def expm1(graph: Any, x: Any) -> Any:
        one = graph.op("Constant", value_t=torch.tensor(1.0))
        return graph.op("Sub", graph.op("Exp", x), one)

    register_custom_op_symbolic("aten::expm1", expm1, _OPSET)  # which tracing does not know
    network = copy.deepcopy(network)
    random = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=random)  # equal weights would become one
    file = io.BytesIO()
    torch.onnx.export(
        network,
        example,
        file,  # type: ignore[arg-type]
        dynamo=False,
        opset_version=_OPSET,
        # neither would leave the weights as they are
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        input_names=inputs,
        output_names=outputs,
        dynamic_axes=dict(zip(inputs, map(dict, varying), strict=True)),
    )
    model = onnx.load_from_string(file.getvalue())
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")  # that of the example
    return model


def _strip(model: Any) -> None:
    """Remove what only says where in the sources a node came from."""
    for holder in (model, model.graph, *model.functions):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
        for entry in (*holder.node,) if hasattr(holder, "node") else ():
            entry.ClearField("metadata_props")
            entry.ClearField("doc_string")
    model.graph.ClearField("value_info")
