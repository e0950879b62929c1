"""A network as an ONNX graph, layer by layer.

Paddle's own converter has no wheel for Python 3.13, does not read what Paddle 2.6 saves, and installs packages while it
runs. A FasterNet is made of a dozen kinds of layers, so they are written here; other kinds are refused by name.

Specification: https://onnx.ai/onnx/operators/.
"""
import numpy as np
from paddle import nn

from ..layers import Conv, DropPath, DWConv, GConv, PConv
from ..model import FasterNet, FasterNetBlock, PatchEmbed, PatchMerging, Stage

OPSET = 17


class _Graph:
    """The nodes and weights written so far."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def constant(self, name, value):
        """Store an array; returns its name."""
        from onnx import numpy_helper
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, kind, inputs, name, outputs=1, **attributes):
        """Write one node; returns the name of its output, or the names of several."""
        from onnx import helper
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def layer(self, layer, x, name):
        """Write a layer on the tensor named ``x``; returns the name of its output."""
        for kind in type(layer).__mro__:
            if kind in _WRITERS and keeps_forward(layer, kind):
                return _WRITERS[kind](self, layer, x, name)
        raise ValueError(f"{name or 'model'} is a {type(layer).__name__}, which cannot be written as ONNX; layers that "
                         f"can: {', '.join(sorted(kind.__name__ for kind in _WRITERS))}. formats=('paddle',) takes any")


def keeps_forward(layer, kind):
    """Whether a layer computes what its class or base class ``kind`` computes, rather than something of its own."""
    return all(getattr(type(layer), name, None) is getattr(kind, name, None)
               for name in ("forward", "forward_features"))


def _sides(padding):
    """Paddle's padding of a convolution, an integer, [h, w] or [top, bottom, left, right], in ONNX's order."""
    if isinstance(padding, int):
        return [padding] * 4
    if len(padding) == 2:
        return [padding[0], padding[1]] * 2
    top, bottom, left, right = padding
    return [top, left, bottom, right]


def _conv(graph, layer, x, name):
    if isinstance(layer._padding, str) or layer._padding_mode != "zeros" or layer._data_format != "NCHW":
        raise ValueError(f"{name}: only convolutions in NCHW with padding by numbers of zeros can be written as ONNX")
    inputs = [x, graph.constant(f"{name}.weight", layer.weight.numpy())]
    if layer.bias is not None:
        inputs.append(graph.constant(f"{name}.bias", layer.bias.numpy()))
    return graph.add("Conv", inputs, name, kernel_shape=layer.weight.shape[2:], pads=_sides(layer._padding),
                     strides=list(layer._stride), dilations=list(layer._dilation), group=layer._groups)


def _batch_norm(graph, layer, x, name):
    values = {"weight": layer.weight, "bias": layer.bias, "_mean": layer._mean, "_variance": layer._variance}
    names = [graph.constant(f"{name}.{key}", value.numpy()) for key, value in values.items()]
    return graph.add("BatchNormalization", [x, *names], name, epsilon=layer._epsilon)


def _gelu(graph, layer, x, name):
    """x (1 + erf(x / sqrt 2)) / 2, written as engines recognise it."""
    if layer._approximate:
        raise ValueError(f"{name}: the tanh form of GELU cannot be written as ONNX yet; use nn.GELU()")
    scaled = graph.add("Div", [x, graph.constant(f"{name}.sqrt2", np.float32(np.sqrt(2)))], f"{name}.scaled")
    erf = graph.add("Erf", [scaled], f"{name}.erf")
    gate = graph.add("Add", [erf, graph.constant(f"{name}.one", np.float32(1))], f"{name}.gate")
    product = graph.add("Mul", [x, gate], f"{name}.product")
    return graph.add("Mul", [product, graph.constant(f"{name}.half", np.float32(0.5))], name)


def _linear(graph, layer, x, name):
    inputs = [x, graph.constant(f"{name}.weight", layer.weight.numpy())]
    if layer.bias is not None:
        inputs.append(graph.constant(f"{name}.bias", layer.bias.numpy()))
    return graph.add("Gemm", inputs, name)


def _average_pool(graph, layer, x, name):
    if layer._output_size not in (1, [1, 1], (1, 1)):
        raise ValueError(f"{name}: only pooling to 1 x 1 can be written as ONNX, not to {layer._output_size}")
    return graph.add("GlobalAveragePool", [x], name)


def _pconv(graph, layer, x, name):
    conv = f"{name}.partial_conv3"
    if layer.dim_untouched == 0:
        return graph.layer(layer.partial_conv3, x, conv)
    sizes = graph.constant(f"{name}.sizes", np.array([layer.dim_conv, layer.dim_untouched], np.int64))
    convolved, untouched = graph.add("Split", [x, sizes], f"{name}.split", outputs=2, axis=1)
    return graph.add("Concat", [graph.layer(layer.partial_conv3, convolved, conv), untouched], name, axis=1)


def _block(graph, layer, x, name):
    branch = graph.layer(layer.spatial_mixing, x, f"{name}.spatial_mixing")
    branch = graph.layer(layer.mlp, branch, f"{name}.mlp")
    if layer.layer_scale is not None:
        scale = graph.constant(f"{name}.layer_scale", layer.layer_scale.numpy().reshape(1, -1, 1, 1))
        branch = graph.add("Mul", [branch, scale], f"{name}.scaled")
    return graph.add("Add", [x, branch], f"{name}.sum")


def _children(*names):
    """A layer that runs its children one after the other."""
    def write(graph, layer, x, name):
        for child in names or [key for key, _ in layer.named_children()]:
            x = graph.layer(getattr(layer, child), x, f"{name}.{child}".lstrip("."))
        return x
    return write


def _elementwise(kind):
    return lambda graph, layer, x, name: graph.add(kind, [x], name)


def _nothing(graph, layer, x, name):
    return x


def _fasternet(graph, layer, x, name):
    x = _children("patch_embed", "stages", "avgpool_pre_head")(graph, layer, x, name)
    x = graph.add("Flatten", [x], "flatten")
    return graph.layer(layer.head, x, "head")


_WRITERS = {
    nn.Conv2D: _conv, nn.BatchNorm2D: _batch_norm, nn.Linear: _linear, nn.AdaptiveAvgPool2D: _average_pool,
    nn.GELU: _gelu, nn.ReLU: _elementwise("Relu"), nn.Sigmoid: _elementwise("Sigmoid"), nn.Tanh: _elementwise("Tanh"),
    nn.Hardswish: _elementwise("HardSwish"), nn.Identity: _nothing, DropPath: _nothing, nn.Sequential: _children(),
    PConv: _pconv, DWConv: _children("conv"), GConv: _children("conv"), Conv: _children("conv"),
    FasterNetBlock: _block, PatchEmbed: _children("proj", "norm", "act"),
    PatchMerging: _children("reduction", "norm", "act"), Stage: _children("blocks"), FasterNet: _fasternet,
}


def to_onnx(model, input_shape):
    """Write a network in evaluation mode as ONNX.

    Args:
        model: a FasterNet, a layer of it, or a Sequential of such layers, on [N, C, H, W].
        input_shape: (C, H, W); N is free.

    Returns:
        An ``onnx.ModelProto`` with the input "x" and the output "logits".

    Raises:
        ValueError: a layer is of a kind that is not written here; the message names it.
    """
    from onnx import TensorProto, checker, helper
    graph = _Graph()
    out = graph.layer(model, "x", "")
    graph.add("Identity", [out], "logits")
    shape = ["N", *input_shape]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, type(model).__name__,
                          [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                          [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", "K"])], graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="paddle_fasternet")
    checker.check_model(proto)
    return proto
