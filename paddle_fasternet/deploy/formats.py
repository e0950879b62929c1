"""The files that engines read, by name, and how they are written of a network."""
import contextlib
import threading
import traceback
from pathlib import Path
from unittest import mock

import numpy as np
import paddle
from paddle import nn

from .._plain import oddities
from .onnx_graph import to_onnx

PADDLE, ONNX, INT8_ONNX_FILE = "inference", "model.onnx", "model_int8.onnx"
# Paddle 3 writes .json, 2.6 .pdmodel
PADDLE_FILES = [(f"{PADDLE}{suffix}", f"{PADDLE}.pdiparams") for suffix in (".json", ".pdmodel")]

_writing = threading.Lock()


@contextlib.contextmanager
def _nothing_kept():
    """``paddle.jit.save`` keeps memory for good: 2.5 MB of a T0 on Paddle 3.3, a copy of its parameters on 2.6.

    Paddle 3.3 never frees the Python stack that it takes down for each operator, and both hold every scope that is
    made until they are told otherwise; the one that ``save`` makes holds the parameters.
    """
    core, scopes = paddle.base.core, []
    make = core.Scope

    def scope():
        scopes.append(make())
        return scopes[-1]

    with _writing, mock.patch.object(core, "Scope", scope), \
            mock.patch.object(traceback, "extract_stack", lambda *_, **__: traceback.StackSummary()):
        yield
    for one in scopes:
        one._remove_from_pool()


class _WithProbabilities(nn.Layer):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        logits = self.network(x)
        return nn.functional.softmax(logits), logits


def write_paddle(network, folder, image_size, channels):
    """Paddle's program and parameters of a folded network; outputs: probabilities, logits, [N, K] each.

    Raises:
        ValueError: Paddle cannot write the network; the message names its odd layers.
    """
    layer = _WithProbabilities(network)
    layer.eval()
    spec = paddle.static.InputSpec([None, channels, image_size, image_size], "float32", "x")
    layers = network.sublayers(include_self=True)
    own = [one for one in layers if "forward" in vars(one)]
    try:
        with _nothing_kept():
            paddle.jit.save(layer, str(Path(folder) / PADDLE), input_spec=[spec])
    except Exception as error:  # Paddle's own are of many kinds and name neither layer nor way out
        odd = "; ".join(f"{name or 'the network'} {why}" for name, why in oddities(network))
        raise ValueError(f"the network cannot be written as Paddle's inference program: {odd or type(error).__name__}. "
                         "Make a layer with a forward of its own of what was replaced, or use engine='eager'"
                         ) from error
    finally:  # Paddle 2.6 leaves its static forward on the layers, which would then pass for replaced ones
        for one in layers:
            if not any(one is other for other in own):
                vars(one).pop("forward", None)


def write_onnx(network, folder, image_size, channels):
    """A folded network as an ONNX file in ``folder``."""
    (Path(folder) / ONNX).write_bytes(to_onnx(network, (channels, image_size, image_size)).SerializeToString())


def quantised(model, products, preset, inputs):
    """``model``, of a kind that NNCF takes, in int8.

    The stem, which sees the pixels, and the layers after the pooling cost little and lose most: they stay as they are.

    Args:
        products: names of the convolutions and matrix products, in their order.
        preset: of ``nncf.QuantizationPreset``, by name.
        inputs: what the model is calibrated with.
    """
    import logging

    import nncf
    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(model, nncf.Dataset(inputs), subset_size=len(inputs), preset=nncf.QuantizationPreset[preset],
                         ignored_scope=nncf.IgnoredScope(names=[products[0], *products[-2:]]))


def quantised_onnx(path, batches):
    """The ONNX file ``path`` in int8, as a model in memory."""
    import onnx
    model = onnx.load(str(path))
    products = [node.name for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    return quantised(model, products, "MIXED", [{"x": np.asarray(batch)} for batch in batches])
