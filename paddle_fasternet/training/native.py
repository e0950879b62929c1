"""Training FasterNet on a CPU by our own kernels (the C++ in ``native/csrc/training``), called through ctypes.

A training step of Paddle on a CPU spends most of its time outside the products: on copies at PConv's split and concat,
on activations that are written and read again for every normalisation and GELU, and on layouts. Here stem, stages and
merging layers are one operation of Paddle's autograd: see the head of ``trunk.h``. Pooling, the layers behind it
and the loss stay Paddle's.

The kernels compute what the layers compute, in float32, or with the products' factors and the activations in bfloat16
where the processor has instructions for it, AVX512-BF16 or AMX (as mixed precision does elsewhere: weights, statistics
and gradients of weights stay float32).
"""
import ctypes
import functools
import weakref
from pathlib import Path

import paddle
from paddle import nn
from paddle.autograd import PyLayer

from .._check import check_choice, check_number, check_type
from .._modes import traced
from ..deploy.native_form import foreign
from ..layers import drop_factors
from ..mixers import mixer_of
from ..model import FasterNet, FasterNetBlock, PatchEmbed, Stage, patch_shape
from ..native import library as native
from ..native.cpu import default_threads
from ..native.library import Images, structure

_ACTS = {nn.Identity: 0, nn.ReLU: 1, nn.GELU: 2}
_NO_MIXER, _PARTIAL, _DEPTHWISE = 0, 1, 2
_LARGEST_KERNEL = 15
_FLOATS, _int, _long, _float = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_float

# as in native/csrc/training/network.h
_Norm = structure("Norm", gamma=_FLOATS, beta=_FLOATS, mean=_FLOATS, variance=_FLOATS, d_gamma=_FLOATS,
                  d_beta=_FLOATS)
_Block = structure("Block", mixer=_int, kernel=_int, dim_conv=_int, groups=_int, hidden=_int, conv=_FLOATS,
                   first=_FLOATS, norm=_Norm, second=_FLOATS, scale=_FLOATS, drop=_FLOATS, d_conv=_FLOATS,
                   d_first=_FLOATS, d_second=_FLOATS, d_scale=_FLOATS)
_Stage = structure("Stage", dim=_int, depth=_int, step=_int, overlap=_int, weight=_FLOATS, norm=_Norm, d_weight=_FLOATS,
                   blocks=ctypes.POINTER(_Block))
_Network = structure("Network", channels=_int, stage_count=_int, act=_int, embed_act=_int, epsilon=_float,
                     momentum=_float, stages=ctypes.POINTER(_Stage))
_MuonMatrix = structure("MuonMatrix", weight=_FLOATS, momentum=_FLOATS, gradient=_FLOATS, rows=_long, columns=_long)
_MuonSettings = structure("MuonSettings", rate=_float, decay=_float, momentum=_float, size=_float, a=_float, b=_float,
                          c=_float, iterations=_int)


@functools.cache
def _library():
    """The shared library with the types of its functions."""
    library, reason = native.load_library()
    if library is None:
        raise RuntimeError(reason)
    library.fasternet_pass_create.restype = ctypes.c_void_p
    library.fasternet_pass_destroy.argtypes = [ctypes.c_void_p]
    library.fasternet_muon.argtypes = [_int, ctypes.POINTER(_MuonMatrix), _long, ctypes.POINTER(_MuonSettings), _int]
    for function in (library.fasternet_forward, library.fasternet_backward):
        function.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Network), ctypes.POINTER(Images), ctypes.POINTER(_FLOATS),
                             _int]
    _share_threads(library)
    return library


def _share_threads(library):
    """Let the kernels run on the threads of Paddle's layers, where these are OpenMP's.

    Idle OpenMP threads keep their cores for 0.2 s (KMP_BLOCKTIME) after each piece of work. Threads of the kernels' own
    would compete with them for the cores, and without this wait Paddle's layers would be 1.6 to 4 times slower.
    """
    openmp = Path(paddle.__file__).parent / "libs" / "libiomp5.so"
    names = "GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads"
    found = ctypes.CDLL(str(openmp)) if openmp.exists() else None
    if all(hasattr(found, name) for name in names):
        library.fasternet_use_openmp.argtypes = [ctypes.c_void_p] * 3
        library.fasternet_use_openmp(*(ctypes.cast(getattr(found, name), ctypes.c_void_p) for name in names))


def kinds():
    """{kind: number} of the training kernels that this processor and build offer, best first: {"bf16-amx": 0, ...}."""
    return native.kinds("fasternet_training_kind")


def why_not(model, precision="fp32"):
    """Why ``use_native_kernels(model, precision)`` would refuse and what to do; "" if it would not."""
    library, reason = native.load_library()
    if library is None:
        return reason
    if not any(kind.startswith(precision) for kind in kinds()):
        return native.missing(precision)
    if not all(isinstance(block, FasterNetBlock) for block in _blocks(model)):
        return "this network cannot be trained by the native kernels: one of its blocks is no FasterNetBlock"
    norms = [layer for layer in model.sublayers() if isinstance(layer, nn.BatchNorm2D)]
    mixers_known = all(_mixer(block.spatial_mixing) is not None for block in _blocks(model))
    weights = _weights(model) if mixers_known else []
    head = [type(layer) for layer in model.avgpool_pre_head.children()]
    acts = {type(block.mlp[2]) for block in _blocks(model)}
    checks = [
        (paddle.get_device() == "cpu" and str(model.patch_embed.proj.weight.place) == "Place(cpu)",
         "it is not on the CPU"),
        (all(parameter.dtype == paddle.float32 for parameter in model.parameters()), "its weights are not float32"),
        (all(type(layer) is nn.BatchNorm2D for layer in _norms(model)), "not every norm_layer is BatchNorm2D"),
        (all(norm.weight is not None and norm.bias is not None for norm in norms), "a BatchNorm has no weight or bias"),
        (len({(norm._momentum, norm._epsilon) for norm in norms}) == 1, "its norms differ in momentum or epsilon"),
        (not any(norm._use_global_stats for norm in norms), "a BatchNorm uses its running statistics in training"),
        (len(acts) <= 1 and all(_act(block.mlp[2]) is not None for block in _blocks(model)),
         f"its activation is {' and '.join(act.__name__ for act in acts)}; the kernels do ReLU and GELU"),
        (type(model).forward_features is FasterNet.forward_features, "its class has a forward_features of its own"),
        (all(patch_shape(embedding) for embedding, _ in _stages(model)),
         "its stem or a merging layer has another convolution than FasterNet's"),
        (_act(model.patch_embed.act) is not None, "the activation behind its stem is not ReLU or GELU"),
        (mixers_known, "the kernels do the mixers pconv, dwconv, gconv, conv and identity with odd kernels up to 15"),
        (all(conv.bias is None for conv in model.sublayers() if isinstance(conv, nn.Conv2D)),
         "one of its convolutions has a bias"),
        (len(set(map(id, weights))) == len(weights), "one of its weights is in two places"),
        (head[:2] == [nn.AdaptiveAvgPool2D, nn.Conv2D] and len(head) == 3, "its avgpool_pre_head is another"),
    ]
    wrong = [text for right, text in checks if not right]
    other = "" if wrong else foreign(model, nn.BatchNorm2D)
    wrong += [f"they read weights and do not call {other}"] if other else []
    return f"this network cannot be trained by the native kernels: {wrong[0]}" if wrong else ""


def use_native_kernels(model, precision="fp32", threads=None):
    """Let ``model``, in training mode, compute stem and stages by this module's kernels. Changes and returns ``model``.

    Args:
        model: a ``FasterNet`` on the CPU.
        precision: "fp32" computes what Paddle's layers compute, to rounding; "bf16" needs a processor with AVX512-BF16
            or AMX.
        threads: None: as many as this process may use.

<<<<<<< HEAD
    In evaluation, for ``forward_features``, inside ``paddle.jit.to_static``, and where the input needs a gradient,
    Paddle's layers are used as before.
=======
    In evaluation and where the input needs a gradient, Paddle's layers are used as before.
>>>>>>> 9a68651 (wip)
    A network with a hook before its head is refused; a hook registered later is not called in training. A forward has
    one backward: at a second one Paddle (2.6, 3.3) crashes in any ``PyLayer``. ``model.kernels = None`` switches back.
    The kernels run on the OpenMP threads of Paddle's layers, whose speed in the same process stays as it is.

    Raises:
        ValueError: the network has layers that the kernels do not know.
        RuntimeError: the kernels were not built or the processor lacks something; the message says what to do.
    """
    check_type("model", model, FasterNet)
    check_choice("precision", precision, ("fp32", "bf16"))
    reason = why_not(model, precision)
    if reason:
        raise (ValueError if reason.startswith("this network") else RuntimeError)(reason)
    model.kernels = NativeKernels(precision, threads)
    return model


class NativeKernels:
    """What ``FasterNet.kernels`` is while the native kernels are used. It knows no network and may be shared.

    Attributes:
        kind: "bf16-amx", "bf16-avx512", "fp32-avx512", ...
        threads: of every pass.
    """

    def __init__(self, precision="fp32", threads=None):
        threads = default_threads() if threads is None else threads
        self.threads = check_number("threads", threads, low=1, high=1024, integer=True)
        found = kinds()
        self.kind = native.find_kind(precision, found)
        if self.kind is None:
            raise RuntimeError(f"precision={precision!r} is not among the kernels here: {', '.join(found) or 'none'}")
        self._number = found[self.kind]
        self._idle = []  # passes, with their memory, that wait for the next step

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return NativeKernels, (self.kind.split("-")[0], self.threads)  # the best of that precision where it is read

    def takes(self, model, x):
        """Whether the kernels can do this input in the network's present state."""
        return (not traced() and paddle.get_device() == "cpu" and x.place.is_cpu_place()
                and x.dtype == model.patch_embed.proj.weight.dtype == paddle.float32 and x.stop_gradient and x.size > 0
                and all(norm.training for norm in _norms(model)))

    def __call__(self, model, x):
        """[N, C, H, W] to features [N, feature_dim], with gradients for the weights."""
        pool, conv, act = model.avgpool_pre_head
        pooled = pool(self._run(model, x, maps=[-1])).flatten(1)
        # at one pixel an image Paddle's convolution on a CPU is many times slower than the product that it is
        return act(paddle.matmul(pooled, conv.weight.flatten(1), transpose_y=True))

    def forward_features(self, model, x):
        """[N, C, H, W] to the maps of all stages, with gradients for the weights."""
        maps = self._run(model, x, maps=range(len(_stages(model))))
        return list(maps) if isinstance(maps, (list, tuple)) else [maps]

    def _run(self, model, x, maps):
        return _Trunk.apply(_Task(self, model, len(x), maps), x.contiguous(), *_weights(model))

    def take_pass(self):
        """A pass for one forward and its backward."""
        return self._idle.pop() if self._idle else _Pass(self._number, self.threads)

    def give_back(self, done):
        self._idle.append(done)

    def muon(self, matrices, momenta, rate, decay, momentum, size, coefficients, iterations):
        """A step of ``optimizers.Muon`` for matrices [out, in * k * k]. Changes the tensors of both lists."""
        shapes = [(matrix.shape[0], matrix.size // matrix.shape[0]) for matrix in matrices]
        gradients = [matrix.grad.contiguous() for matrix in matrices]
        table = (_MuonMatrix * len(matrices))(*(
            _MuonMatrix(_address(matrix), _address(moment), _address(gradient), *shape)
            for matrix, moment, gradient, shape in zip(matrices, momenta, gradients, shapes)))
        settings = _MuonSettings(rate, decay, momentum, size, *coefficients, iterations)
        if _library().fasternet_muon(self._number, table, len(matrices), ctypes.byref(settings), self.threads):
            raise MemoryError(f"no memory for a step of Muon on matrices of shapes {sorted(set(shapes))}")


class _Task:
    """What a forward and its backward share; it lives as long as Paddle's graph does.

    (A PyLayer would take a bare list of tensors for inputs.)
    """

    def __init__(self, kernels, model, count, maps):
        self.model, self.maps = model, maps
        paths = [block.drop_path for block in _blocks(model)]
        self.drops = [drop_factors(count, path.drop_prob) if path.drop_prob and path.training else None
                      for path in paths]
        self.run = kernels.take_pass()
        weakref.finalize(self, kernels.give_back, self.run)


class _Pass:
    """Activations of one forward pass, in C++."""

    def __init__(self, number, threads):
        self._library, self._threads = _library(), threads
        self._handle = self._library.fasternet_pass_create(number)
        if not self._handle:
            raise MemoryError("no memory for a training pass")
        weakref.finalize(self, self._library.fasternet_pass_destroy, self._handle)

    def forward(self, network, x, maps):
        self._run(self._library.fasternet_forward, network, x, maps)

    def backward(self, network, x, gradients):
        self._run(self._library.fasternet_backward, network, x, gradients)

    def _run(self, function, network, x, maps):
        """``maps``: a tensor for each stage, or None."""
        images = Images(floats=_address(x), count=x.shape[0], height=x.shape[2], width=x.shape[3])
        table = (_FLOATS * len(maps))(*map(_address, maps))
        if function(self._handle, ctypes.byref(network), ctypes.byref(images), table, self._threads):
            raise MemoryError(f"no memory to train on a batch of shape {list(x.shape)}")


class _Trunk(PyLayer):
    """Stem and stages as one operation of the autograd."""

    @staticmethod
    def forward(ctx, task, x, *weights):
        stages = _stages(task.model)
        shapes, (height, width) = [], x.shape[2:]
        for embedding, _ in stages:
            step, _ = patch_shape(embedding)
            height, width = height // step, width // step
            shapes.append([x.shape[0], _projection(embedding).weight.shape[0], height, width])
        maps = [None] * len(stages)
        for stage in task.maps:
            maps[stage] = paddle.empty(shapes[stage], "float32")
        network, _kept = _describe(task.model, task.drops, {})
        task.run.forward(network, x, maps)
        ctx.task, ctx.x, ctx.weights, ctx.stages = task, x, weights, len(stages)
        ctx.set_materialize_grads(False)
        given = [out for out in maps if out is not None]
        return tuple(given) if len(given) > 1 else given[0]

    @staticmethod
    def backward(ctx, *d_maps):
        task, maps = ctx.task, [None] * ctx.stages
        for stage, gradient in zip(task.maps, d_maps):
            maps[stage] = None if gradient is None else gradient.contiguous()
        gradients = {weight.name: paddle.empty(weight.shape, "float32") for weight in ctx.weights}
        network, _kept = _describe(task.model, task.drops, gradients)
        task.run.backward(network, ctx.x, maps)
        return (None, *(None if weight.stop_gradient else gradients[weight.name] for weight in ctx.weights))


# ---- what the kernels see of a network ----

def _stages(model):
    """[(embedding, blocks), ...]: the stem and the first stage, a merging layer and the second, ..."""
    embedding, stages = model.patch_embed, []
    for layer in model.stages:
        if isinstance(layer, Stage):
            stages.append((embedding, list(layer.blocks)))
        else:
            embedding = layer
    return stages


def _blocks(model):
    return [block for _, blocks in _stages(model) for block in blocks]


def _projection(embedding):
    return embedding.proj if isinstance(embedding, PatchEmbed) else embedding.reduction


def _norms(model):
    return [embedding.norm for embedding, _ in _stages(model)] + [block.mlp[1] for block in _blocks(model)]


def _act(layer):
    """The kernels' number of an activation, None if they do not know it."""
    if isinstance(layer, nn.GELU) and layer._approximate:
        return None
    return _ACTS.get(type(layer))


def _mixer(layer):
    """(kind, kernel size, convolved channels, groups, weight) of a mixer, None if the kernels do not know it."""
    known = mixer_of(layer)
    if known is None or not known.native:
        return None
    if not known.conv:
        return _NO_MIXER, 1, 0, 1, None
    conv = getattr(layer, known.conv)
    if type(conv) is not nn.Conv2D:
        return None
    kernel, channels, groups = conv.weight.shape[2], conv.weight.shape[0], conv._groups
    kind = _DEPTHWISE if groups == channels > 1 else _PARTIAL
    return (kind, kernel, channels, groups, conv.weight) if kernel % 2 and kernel <= _LARGEST_KERNEL else None


def _weights(model):
    """All that the kernels give a gradient."""
    found = []
    for embedding, blocks in _stages(model):
        found += [_projection(embedding).weight, embedding.norm.weight, embedding.norm.bias]
        for block in blocks:
            norm = block.mlp[1]
            found += [_mixer(block.spatial_mixing)[-1], block.mlp[0].weight, norm.weight, norm.bias,
                      block.mlp[3].weight, block.layer_scale]
    return [weight for weight in found if weight is not None]


def _address(tensor):
    """Where a dense CPU tensor's values begin; None stays None."""
    return None if tensor is None else tensor.data_ptr()


def _describe(model, drops, gradients):
    """(the network as the kernels see it, what must live as long); ``gradients``: {a weight's name: its gradient}."""
    def pointers(**tensors):
        found = {name: _address(tensor) for name, tensor in tensors.items()}
        return {**found, **{f"d_{name}": _address(gradients.get(tensor.name))
                            for name, tensor in tensors.items() if tensor is not None}}

    def norm_of(norm):
        return _Norm(mean=_address(norm._mean), variance=_address(norm._variance),
                     **pointers(gamma=norm.weight, beta=norm.bias))

    drops, stages, kept = iter(drops), [], []
    for embedding, layers in _stages(model):
        blocks = []
        for layer in layers:
            kind, kernel, channels, groups, conv = _mixer(layer.spatial_mixing)
            drop = next(drops)
            blocks.append(_Block(
                mixer=kind, kernel=kernel, dim_conv=channels, groups=groups, hidden=layer.mlp[0].weight.shape[0],
                drop=_address(drop), norm=norm_of(layer.mlp[1]),
                **pointers(conv=conv, first=layer.mlp[0].weight, second=layer.mlp[3].weight, scale=layer.layer_scale)))
        kept.append((_Block * len(blocks))(*blocks))
        weight, (step, overlap) = _projection(embedding).weight, patch_shape(embedding)
        stages.append(_Stage(dim=weight.shape[0], depth=len(blocks), step=step, overlap=overlap,
                             norm=norm_of(embedding.norm), blocks=kept[-1], **pointers(weight=weight)))
    kept.append((_Stage * len(stages))(*stages))
    blocks = _blocks(model)
    norm = model.patch_embed.norm
    return _Network(
        channels=model.in_channels, stage_count=len(stages), act=_act(blocks[0].mlp[2]) if blocks else 0,
        embed_act=_act(model.patch_embed.act), epsilon=norm._epsilon, momentum=norm._momentum, stages=kept[-1]), kept
