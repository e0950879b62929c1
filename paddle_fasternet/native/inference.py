"""FasterNet on a CPU by our own kernels (the C++ in ``csrc/inference``), called through ctypes.

An engine that knows one family of networks can do what a general one cannot: PConv's result goes into a narrow matrix
that the pointwise product reads beside the untouched channels, so that nothing is split or concatenated, and a block's
hidden layer never leaves the cache. The head of ``csrc/inference/runner.h`` describes the layout; the products stand in
``inference/tile_kernel.h`` (AMX) and ``common/registers.h`` (AVX-512, AVX2, any processor).
"""
import ctypes
import re
import weakref

import numpy as np

from .._check import check_choice, check_number
from .cpu import default_threads
from .library import Images, find_kind, kinds, load_library, structure, why_not

_ACTS = {"none": 0, "relu": 1, "gelu": 2}
_MOST_STAGES, LARGEST_KERNEL = 8, 15
_FLOATS = ctypes.POINTER(ctypes.c_float)

# as in csrc/common/network.h and csrc/inference/network.h
_int, _long = ctypes.c_int, ctypes.c_long
_Block = structure("Block", dim_conv=_int, groups=_int, kernel=_int, hidden=_int, conv=_FLOATS, first=_FLOATS,
                   first_bias=_FLOATS, second=_FLOATS, second_bias=_FLOATS)
_Stage = structure("Stage", dim=_int, depth=_int, step=_int, overlap=_int, weight=_FLOATS, bias=_FLOATS,
                   blocks=ctypes.POINTER(_Block))
_Network = structure("Network", channels=_int, stage_count=_int, features=_int, classes=_int, act=_int, embed_act=_int,
                     stages=ctypes.POINTER(_Stage), feature=_FLOATS, feature_bias=_FLOATS, head=_FLOATS,
                     head_bias=_FLOATS, mean=_FLOATS, std=_FLOATS)


def _library():
    """The shared library with the types of its functions."""
    library, reason = load_library()
    if library is None:
        raise RuntimeError(reason)
    library.fasternet_create.restype = ctypes.c_void_p
    library.fasternet_create.argtypes = [ctypes.POINTER(_Network), _int, _int]
    library.fasternet_run.argtypes = [ctypes.c_void_p, ctypes.POINTER(Images), _FLOATS]
    library.fasternet_destroy.argtypes = [ctypes.c_void_p]
    return library


class _Reader:
    """Takes arrays by name, checks their shapes, and knows in the end which were not taken."""

    def __init__(self, arrays):
        self.arrays = arrays
        self.kept = {}

    def take(self, name, shape, optional=False):
        """The array as a C pointer, None where it is absent; ``shape`` has None where any size will do."""
        if name not in self.arrays:
            if optional:
                return None
            raise ValueError(f"{name} is missing; the native engine runs FasterNet")
        array = self.kept.get(name)  # one copy, which lives as long as the pointers to it
        if array is None:
            array = np.ascontiguousarray(self.arrays[name], dtype=np.float32)
        if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape)):
            wanted = ", ".join("*" if size is None else str(size) for size in shape)
            raise ValueError(f"{name} has the shape {list(array.shape)}, not [{wanted}]")
        self.kept[name] = array
        return array.ctypes.data_as(_FLOATS)

    def shape(self, name):
        return self.kept[name].shape

    def check_all_taken(self):
        left = sorted(set(self.arrays) - set(self.kept))
        if left:
            names = f"{', '.join(left[:3])}{' ...' if len(left) > 3 else ''}"
            raise ValueError(f"{names} cannot be run by the native engine; it runs FasterNet with the mixers pconv, "
                             "dwconv, gconv, conv or identity, BatchNorm and layer scale folded in")


def _mixer(reader, name, dim):
    """(convolved channels, groups, kernel size, weight) of a block's mixer."""
    for attribute in ("partial_conv3", "conv"):
        weight = f"{name}.spatial_mixing.{attribute}.weight"
        conv = reader.take(weight, (None,) * 4, optional=True)
        if conv is None:
            continue
        channels, inputs, kernel, _ = reader.shape(weight)
        reader.take(weight, (channels, inputs, kernel, kernel))
        groups = channels // inputs if inputs else 0
        if not mixes(channels, groups, kernel) or groups * inputs != channels or channels > dim:
            raise ValueError(f"{weight} has the shape {list(reader.shape(weight))}; the native engine does up to {dim} "
                             f"channels here and kernels up to {LARGEST_KERNEL}, odd ones if depthwise")
        return channels, groups, kernel, conv
    return 0, 1, 1, None


def mixes(channels, groups, kernel):
    """Whether the kernels do a convolution of this kind."""
    depthwise = groups == channels > 1
    return 0 < kernel <= LARGEST_KERNEL and 0 < groups <= channels and (kernel % 2 == 1 or not depthwise)


def _block(reader, name, dim):
    mixer = _mixer(reader, name, dim)
    first = reader.take(f"{name}.mlp.0.weight", (None, dim, 1, 1))
    hidden = reader.shape(f"{name}.mlp.0.weight")[0]
    return _Block(*mixer[:3], hidden, mixer[3], first, reader.take(f"{name}.mlp.0.bias", (hidden,), optional=True),
                  reader.take(f"{name}.mlp.3.weight", (dim, hidden, 1, 1)),
                  reader.take(f"{name}.mlp.3.bias", (dim,), optional=True))


def _stages(reader, arrays, overlap):
    """The stages, each with the embedding before it: stages.0 and the stem, stages.2 and stages.1.reduction, ..."""
    stages, before = [], None
    while not stages or f"stages.{2 * len(stages) - 1}.reduction.weight" in arrays:
        number = 2 * len(stages)
        embed = "patch_embed.proj" if number == 0 else f"stages.{number - 1}.reduction"
        weight = reader.take(f"{embed}.weight", (None, before, None, None))
        dim, _, size, _ = reader.shape(f"{embed}.weight")
        reader.take(f"{embed}.weight", (dim, before, size, size))
        if size <= 2 * overlap:
            raise ValueError(f"embed_overlap={overlap}: {embed}.weight is {size} x {size}, the overlap alone")
        pattern = re.compile(rf"stages\.{number}\.blocks\.(\d+)\.")
        depth = 1 + max((int(match.group(1)) for match in map(pattern.match, arrays) if match), default=-1)
        blocks = [_block(reader, f"stages.{number}.blocks.{i}", dim) for i in range(depth)]
        bias = reader.take(f"{embed}.bias", (dim,), optional=True)
        stages.append(_Stage(dim, depth, size - 2 * overlap, overlap, weight, bias, (_Block * depth)(*blocks)))
        before = dim
    if len(stages) > _MOST_STAGES:
        raise ValueError(f"{len(stages)} stages; the native engine does up to {_MOST_STAGES}")
    return stages


def _per_channel(argument, values, channels):
    """``mean`` or ``std`` as float32 [channels]; one number stands for all."""
    array = np.asarray(values, dtype=np.float32)
    if array.ndim > 1 or array.size not in (1, channels) or not np.isfinite(array).all():
        raise ValueError(f"{argument}={values!r} must be one number or {channels}, one for each channel")
    if argument == "std" and not (array > 0).all():
        raise ValueError(f"std={values!r} must be positive")
    return np.ascontiguousarray(np.broadcast_to(array, channels))


class NativeNetwork:
    """A FasterNet on the CPU.

    Args:
        arrays: {name: float32 array} under the official names, BatchNorm folded into the convolutions and layer scale
            into ``mlp.3``: "patch_embed.proj.weight" and ".bias",
            "stages.0.blocks.0.spatial_mixing.partial_conv3.weight" or, of DWConv, GConv and Conv,
            "stages.0.blocks.0.spatial_mixing.conv.weight" (both absent: no mixing),
            "stages.0.blocks.0.mlp.0.weight", ".mlp.3.weight", "stages.1.reduction.weight", "avgpool_pre_head.1.weight",
            "head.weight" [features, K] (absent: the answers are the features), each with an optional bias.
            Depths and widths are those of the arrays, which are copied.
        act: "gelu" or "relu".
        embed_act: the activation follows the stem and the merging layers too.
        embed_overlap: see ``FasterNet``.
        mean, std: of the pixels, 0 to 255, for images of bytes.
        precision: "fp32", "bf16", or one of ``kinds()`` to choose the kernel.
        threads: None: as many as this process may use.

    Calls from several threads wait for each other. An image's answer depends neither on its batch nor on ``threads``.

    Raises:
        ValueError: the network is of another kind, or an argument is wrong; the message says which.
        RuntimeError: the precision is not available here; the message says why and what to do.
    """

    def __init__(self, arrays, act, embed_act=False, embed_overlap=0, mean=None, std=None, precision="fp32",
                 threads=None):
        library = _library()
        check_choice("act", act, ("gelu", "relu"))
        overlap = check_number("embed_overlap", embed_overlap, low=0, high=1024, integer=True)
        found = kinds()
        check_choice("precision", precision, ("fp32", "bf16", *found))
        kind = find_kind(precision, found)
        if kind is None:
            raise RuntimeError(why_not(precision))
        threads = default_threads() if threads is None else threads
        self.threads = check_number("threads", threads, low=1, high=1024, integer=True)
        if (mean is None) != (std is None):
            raise ValueError(f"mean={mean!r} and std={std!r} must be given together")
        self.kind, self.precision, self._takes_bytes = kind, kind.split("-")[0], mean is not None

        reader = _Reader(arrays)
        stages = _stages(reader, arrays, overlap)
        self.channels = reader.shape("patch_embed.proj.weight")[1]
        self.stride = int(np.prod([stage.step for stage in stages]))
        feature = reader.take("avgpool_pre_head.1.weight", (None, stages[-1].dim, 1, 1))
        features = reader.shape("avgpool_pre_head.1.weight")[0]
        feature_bias = reader.take("avgpool_pre_head.1.bias", (features,), optional=True)
        head = reader.take("head.weight", (features, None), optional=True)
        classes = 0 if head is None else reader.shape("head.weight")[1]
        head_bias = reader.take("head.bias", (classes,), optional=True)
        reader.check_all_taken()
        self.outputs = classes or features
        mean = _per_channel("mean", 0 if mean is None else mean, self.channels)
        std = _per_channel("std", 1 if std is None else std, self.channels)
        network = _Network(
            self.channels, len(stages), features, classes, _ACTS[act], _ACTS[act if embed_act else "none"],
            (_Stage * len(stages))(*stages), feature, feature_bias, head, head_bias,
            mean.ctypes.data_as(_FLOATS), std.ctypes.data_as(_FLOATS))
        self._handle = library.fasternet_create(ctypes.byref(network), found[kind], self.threads)
        if not self._handle:
            raise MemoryError("no memory for the network's weights")
        self._library = library
        weakref.finalize(self, library.fasternet_destroy, self._handle)

    def __call__(self, images):
        """uint8 [N, H, W, C] to logits, float32 [N, K]."""
        images = np.asarray(images)
        if not self._takes_bytes:
            raise ValueError("images of bytes need mean and std when the network is made")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != self.channels:
            raise ValueError(f"images of type {images.dtype} and shape {list(images.shape)} must be uint8 "
                             f"[N, H, W, {self.channels}]")
        count, height, width, _ = images.shape
        return self._run("bytes", np.ascontiguousarray(images), count, height, width)

    def logits(self, x):
        """float32 [N, C, H, W], normalised, to logits, float32 [N, K]."""
        x = np.asarray(x)
        if x.dtype != np.float32 or x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"input of type {x.dtype} and shape {list(x.shape)} must be float32 "
                             f"[N, {self.channels}, H, W]")
        count, _, height, width = x.shape
        return self._run("floats", np.ascontiguousarray(x), count, height, width)

    def _run(self, field, array, count, height, width):
        if min(height, width) < self.stride:
            raise ValueError(f"images of {height} x {width} pixels are smaller than the network's stride {self.stride}")
        answers = np.empty((count, self.outputs), np.float32)
        if count:
            images = Images(count=count, height=height, width=width)
            setattr(images, field, array.ctypes.data)
            if self._library.fasternet_run(self._handle, ctypes.byref(images), answers.ctypes.data_as(_FLOATS)):
                raise MemoryError(f"no memory for {count} images of {height} x {width} pixels")
        return answers
