"""A network as an ONNX graph, layer by layer.

Paddle's own converter has no wheel for Python 3.13, does not read what Paddle 2.6 saves, and installs packages while it
runs. A FasterNet is made of a dozen kinds of layers, so they are written here; other kinds are refused by name.

Specification: https://onnx.ai/onnx/operators/.
"""
import numpy as np
from paddle import nn

from .._modes import evaluating
from .._plain import oddity
from ..layers import DropPath
from ..mixers import MIXERS
from ..model import FasterNet, FasterNetBlock, PatchEmbed, PatchMerging, Stage

OPSET = 17
_OTHERWISE = "formats=('paddle',) takes any network"


class _Graph:
    """The nodes and weights written so far."""

    def __init__(self):
        self.nodes, self.weights, self._names = [], [], {"x", "logits"}

    def constant(self, name, value):
        """Store a parameter as float32, or an array as it is; returns its name."""
        from onnx import numpy_helper
        array = np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else value.astype("float32").numpy()
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), self._unique(name)))
        return self.weights[-1].name

    def add(self, kind, inputs, name, outputs=1, **attributes):
        """Write one node; returns the name of its output, or the names of several."""
        from onnx import helper
        name = self._unique(name or kind.lower())
        names = [name] if outputs == 1 else [self._unique(f"{name}.{i}") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def layer(self, layer, x, name):
        """Write a layer on the tensor named ``x``; returns the name of its output."""
        title = name or "model"
        kind = next((kind for kind in type(layer).__mro__ if kind in WRITERS), None)
        if kind is None:
            known = ", ".join(sorted(kind.__name__ for kind in WRITERS))
            raise ValueError(f"{title} is a {type(layer).__name__}, which cannot be written as ONNX; layers that can: "
                             f"{known}. {_OTHERWISE}")
        odd = oddity(layer, kind)
        if odd or layer.training:
            why = odd or "stays in training mode after eval()"
            raise ValueError(f"{title} {why}, so it cannot be written as ONNX; remove that, or make a layer of it that "
                             f"can be written. {_OTHERWISE}")
        return WRITERS[kind](self, layer, x, name)

    def _unique(self, name):
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def _require(condition, name, only, found=""):
    """Raise ValueError unless a layer is of the form that is written here."""
    if not condition:
        raise ValueError(f"{name or 'model'}: only {only} can be written as ONNX{found}. {_OTHERWISE}")


def _conv(graph, layer, x, name):
    _require(layer._padding_algorithm != "SAME" and layer._padding_mode == "zeros" and layer._data_format == "NCHW",
             name, "convolutions in NCHW with padding by numbers of zeros")
    sides = list(layer._updated_padding)  # [h, w] or [top, bottom, left, right]; ONNX: [top, left, bottom, right]
    pads = sides * 2 if len(sides) == 2 else [sides[i] for i in (0, 2, 1, 3)]
    return graph.add("Conv", [x, *_parameters(graph, layer, name)], name, kernel_shape=layer.weight.shape[2:],
                     pads=pads, strides=list(layer._stride), dilations=list(layer._dilation), group=layer._groups)


def _parameters(graph, layer, name):
    values = {"weight": layer.weight, "bias": layer.bias}
    return [graph.constant(f"{name}.{key}", value) for key, value in values.items() if value is not None]


def _batch_norm(graph, layer, x, name):
    _require(layer._use_global_stats is not False, name, "BatchNorm by its running statistics",
             ", not use_global_stats=False")
    _require(layer._data_format == "NCHW", name, "BatchNorm in NCHW", f", not in {layer._data_format}")
    channels = layer._mean.shape
    values = {"weight": np.ones(channels, np.float32) if layer.weight is None else layer.weight,
              "bias": np.zeros(channels, np.float32) if layer.bias is None else layer.bias,
              "_mean": layer._mean, "_variance": layer._variance}
    names = [graph.constant(f"{name}.{key}", value) for key, value in values.items()]
    return graph.add("BatchNormalization", [x, *names], name, epsilon=layer._epsilon)


def _gelu(graph, layer, x, name):
    """x (1 + erf(x / sqrt 2)) / 2, written as engines recognise it."""
    if layer._approximate:
        raise ValueError(f"{name or 'model'}: the tanh form of GELU cannot be written as ONNX; use nn.GELU(). "
                         f"{_OTHERWISE}")
    scaled = graph.add("Div", [x, graph.constant(f"{name}.sqrt2", np.float32(np.sqrt(2)))], f"{name}.scaled")
    erf = graph.add("Erf", [scaled], f"{name}.erf")
    gate = graph.add("Add", [erf, graph.constant(f"{name}.one", np.float32(1))], f"{name}.gate")
    product = graph.add("Mul", [x, gate], f"{name}.product")
    return graph.add("Mul", [product, graph.constant(f"{name}.half", np.float32(0.5))], name)


def _silu(graph, layer, x, name):
    return graph.add("Mul", [x, graph.add("Sigmoid", [x], f"{name}.gate")], name)


def _relu6(graph, layer, x, name):
    return graph.add("Clip", [x, *(graph.constant(f"{name}.{value}", np.float32(value)) for value in (0, 6))], name)


def _prelu(graph, layer, x, name):
    _require(layer._data_format == "NCHW", name, "PReLU in NCHW", f", not in {layer._data_format}")
    slopes = graph.constant(f"{name}._weight", layer._weight.reshape([-1, 1, 1]))
    return graph.add("PRelu", [x, slopes], name)


def _dropout(graph, layer, x, name):
    """Nothing, unless the values are multiplied by 1 - p in evaluation instead of divided by it in training."""
    if getattr(layer, "mode", "upscale_in_train") == "upscale_in_train":
        return x
    return graph.add("Mul", [x, graph.constant(f"{name}.keep", np.float32(1 - layer.p))], name)


def _flatten(graph, layer, x, name):
    _require((layer.start_axis, layer.stop_axis) == (1, -1), name, "nn.Flatten() from axis 1 to the last")
    return graph.add("Flatten", [x], name)


def _linear(graph, layer, x, name):
    return graph.add("Gemm", [x, *_parameters(graph, layer, name)], name)


def _average_pool(graph, layer, x, name):
    _require(layer._output_size in (1, [1, 1], (1, 1)) and layer._data_format == "NCHW", name,
             "pooling to 1 x 1 in NCHW", f", not to {layer._output_size} in {layer._data_format}")
    return graph.add("GlobalAveragePool", [x], name)


def _block(graph, layer, x, name):
    branch = graph.layer(layer.spatial_mixing, x, f"{name}.spatial_mixing")
    branch = graph.layer(layer.mlp, branch, f"{name}.mlp")
    if layer.layer_scale is not None:
        scale = graph.constant(f"{name}.layer_scale", layer.layer_scale.reshape([1, -1, 1, 1]))
        branch = graph.add("Mul", [branch, scale], f"{name}.scaled")
    branch = graph.layer(layer.drop_path, branch, f"{name}.drop_path")
    return graph.add("Add", [x, branch], f"{name}.sum")


def children(*names):
    """The writer of a layer that runs its children, these or all, one after the other."""
    def write(graph, layer, x, name):
        for child in names or list(layer._sub_layers):
            x = graph.layer(getattr(layer, child), x, f"{name}.{child}".lstrip("."))
        return x
    return write


def elementwise(kind, **attributes):
    """The writer of a layer that is one node; an attribute's value may be a function of the layer."""
    def write(graph, layer, x, name):
        values = {key: value(layer) if callable(value) else value for key, value in attributes.items()}
        return graph.add(kind, [x], name, **values)
    return write


def nothing(graph, layer, x, name):
    """The writer of a layer that returns its input in evaluation mode."""
    return x


def _fasternet(graph, layer, x, name):
    x = graph.layer(layer.patch_embed, x, f"{name}.patch_embed".lstrip("."))
    x = graph.layer(layer.stages, x, f"{name}.stages".lstrip("."))
    _require(isinstance(list(layer.stages)[-1], Stage), name, "a FasterNet whose last stage is a Stage")
    x = graph.layer(layer.avgpool_pre_head, x, f"{name}.avgpool_pre_head".lstrip("."))
    x = graph.add("Flatten", [x], f"{name}.flatten".lstrip("."))
    return graph.layer(layer.head, x, f"{name}.head".lstrip("."))


# {class: function(graph, layer, x, name) that writes such a layer and returns the name of its output}
WRITERS = {
    nn.Conv2D: _conv, nn.BatchNorm2D: _batch_norm, nn.SyncBatchNorm: _batch_norm, nn.Linear: _linear,
    nn.AdaptiveAvgPool2D: _average_pool, nn.Flatten: _flatten, nn.Sequential: children(),
    DropPath: nothing, nn.Dropout: _dropout, nn.Dropout2D: nothing, nn.AlphaDropout: nothing,
    nn.GELU: _gelu, nn.ReLU: elementwise("Relu"), nn.ReLU6: _relu6, nn.PReLU: _prelu, nn.Silu: _silu, nn.Swish: _silu,
    nn.LeakyReLU: elementwise("LeakyRelu", alpha=lambda layer: layer._negative_slope),
    nn.ELU: elementwise("Elu", alpha=lambda layer: layer._alpha),
    nn.Sigmoid: elementwise("Sigmoid"), nn.Tanh: elementwise("Tanh"), nn.Hardswish: elementwise("HardSwish"),
    nn.Softmax: elementwise("Softmax", axis=lambda layer: layer._axis),
    nn.Hardsigmoid: elementwise("HardSigmoid", alpha=1 / 6, beta=0.5),
    **{mixer.layer: mixer.onnx or children(mixer.conv) for mixer in MIXERS.values() if mixer.layer},
    FasterNetBlock: _block, PatchEmbed: children("proj", "norm", "act"),
    PatchMerging: children("reduction", "norm", "act"), Stage: children("blocks"), FasterNet: _fasternet,
}


def to_onnx(model, input_shape):
    """Write a network as ONNX, as it computes in evaluation mode; weights of any float type become float32.

    Args:
        model: a FasterNet, a layer of it, or a Sequential of such layers, on [N, C, H, W].
        input_shape: (C, H, W); N is free.

    Returns:
        An ``onnx.ModelProto`` with the input "x" and the output "logits".

    Raises:
        ValueError: a layer is of a kind that is not written here, or computes something else than its class (a hook, a
            replaced method, a weight that another function computes); the message names it.
    """
    from onnx import TensorProto, checker, helper, shape_inference
    graph = _Graph()
    with evaluating(model):
        out = graph.layer(model, "x", "")
    graph.nodes.append(helper.make_node("Identity", [out], ["logits"], name="logits"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *input_shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    proto = shape_inference.infer_shapes(helper.make_model(
        helper.make_graph(graph.nodes, type(model).__name__, [x], [logits], graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="paddle_fasternet"))
    del proto.graph.value_info[:]
    checker.check_model(proto)
    return proto
