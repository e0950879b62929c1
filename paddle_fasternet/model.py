"""FasterNet: four stages of blocks, each a spatial mixer (PConv) and a pointwise MLP.

Paper: Chen et al., "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks", CVPR 2023,
https://arxiv.org/abs/2303.03667, section 3.3 and table 8. Original: https://github.com/JierunChen/FasterNet.

What differs from the original: the mixer, the merging strides, an activation behind the embeddings and an overlap of
their patches are arguments; any activation and normalisation class; ``forward_features`` returns the stages' maps as
they are (the original's detection mode puts a normalisation behind each). Parameter names are the original's, which are
PaddleClas's too.
"""
import re

import paddle
from paddle import nn

from . import _pickling  # noqa: F401
from ._check import check_choice, check_number, check_sizes, check_type
from ._modes import check_dynamic
from .layers import DropPath
from .mixers import KERNEL_SIZE, make_mixer
from .weights import bundle_of, load_pretrained, shipped_arguments

INITS = ("paper", "he")


def _check_layers(**layers):
    for argument, layer in layers.items():
        if not callable(layer) or (isinstance(layer, type) and not issubclass(layer, nn.Layer)):
            raise TypeError(f"{argument}={layer!r} must be a layer class, such as paddle.nn.ReLU")


class FasterNetBlock(nn.Layer):
    """x + drop_path(layer_scale * mlp(mixer(x))), where mlp is pointwise conv, norm, activation, pointwise conv.

    Args:
        dim: channels.
        mlp_ratio: width of the hidden layer over ``dim``.
        n_div: PConv's divisor.
        drop_path: probability of dropping the branch of a sample in training.
        layer_scale_init_value: first value of a factor for each channel on the branch; 0 leaves the factor out.
        act_layer, norm_layer: classes; ``act_layer()``, ``norm_layer(channels)``.
        mixer: a name ("pconv", "dwconv", "gconv", "conv", "identity", or of ``register_mixer``) or a callable
            ``dim -> nn.Layer``.
        kernel_size: side of the mixer's kernel, for a mixer by name that has one.

    Shape: [N, dim, H, W] to the same.
    """

    def __init__(self, dim, mlp_ratio=2.0, n_div=4, drop_path=0.0, layer_scale_init_value=0.0, act_layer=nn.ReLU,
                 norm_layer=nn.BatchNorm2D, mixer="pconv", kernel_size=KERNEL_SIZE):
        super().__init__()
        dim = check_number("dim", dim, low=1, integer=True)
        check_number("mlp_ratio", mlp_ratio, low=1 / dim)
        _check_layers(act_layer=act_layer, norm_layer=norm_layer)
        check_number("layer_scale_init_value", layer_scale_init_value, low=0)
        hidden = check_number("dim * mlp_ratio", int(dim * mlp_ratio), low=1, integer=True)
        self.spatial_mixing = make_mixer(mixer, dim, n_div, kernel_size)
        self.mlp = nn.Sequential(
            nn.Conv2D(dim, hidden, 1, bias_attr=False),
            norm_layer(hidden),
            act_layer(),
            nn.Conv2D(hidden, dim, 1, bias_attr=False),
        )
        self.drop_path = DropPath(check_number("drop_path", drop_path, low=0, high=1))
        self.layer_scale = None
        if layer_scale_init_value > 0:
            self.layer_scale = self.create_parameter(
                [dim], default_initializer=nn.initializer.Constant(layer_scale_init_value))

    def forward(self, x):
        branch = self.mlp(self.spatial_mixing(x))
        if self.layer_scale is not None:
            scale = self.layer_scale.reshape([1, -1, 1, 1])
            # of mixed precision: the scale's float32 would pull up all that follows
            branch = (scale if scale.dtype == branch.dtype else scale.astype(branch.dtype)) * branch
        return x + self.drop_path(branch)


def _patches(channels, dim, step, overlap):
    """A convolution over patches ``step`` pixels apart, each reaching ``overlap`` pixels beyond that on every side."""
    return nn.Conv2D(channels, dim, step + 2 * overlap, stride=step, padding=overlap, bias_attr=False)


def patch_shape(layer):
    """(step, overlap) of a stem or merging layer; None where its convolution was replaced by one of another kind."""
    conv = layer.proj if isinstance(layer, PatchEmbed) else layer.reduction
    if type(conv) is not nn.Conv2D or not isinstance(conv._padding, int):
        return None
    step, overlap = conv._stride[0], conv._padding
    plain = (conv.weight.shape[2:] == [step + 2 * overlap] * 2 and list(conv._stride) == [step] * 2
             and list(conv._dilation) == [1, 1] and conv._groups == 1 and conv._padding_mode == "zeros"
             and conv._data_format == "NCHW")
    return (step, overlap) if plain else None


class PatchEmbed(nn.Layer):
    """Stem. [N, C, H, W] to [N, embed_dim, H // patch_size, W // patch_size]."""

    def __init__(self, in_channels, embed_dim, patch_size, norm_layer, act_layer=nn.Identity, overlap=0):
        super().__init__()
        self.proj = _patches(in_channels, embed_dim, patch_size, overlap)
        self.norm = norm_layer(embed_dim)
        self.act = act_layer()

    def forward(self, x):
        return self.act(self.norm(self.proj(x)))


class PatchMerging(nn.Layer):
    """Between two stages: [N, dim, H, W] to [N, 2 dim, H // merge_size, W // merge_size]."""

    def __init__(self, dim, merge_size, norm_layer, act_layer=nn.Identity, overlap=0):
        super().__init__()
        self.reduction = _patches(dim, 2 * dim, merge_size, overlap)
        self.norm = norm_layer(2 * dim)
        self.act = act_layer()

    def forward(self, x):
        return self.act(self.norm(self.reduction(x)))


class Stage(nn.Layer):
    """The blocks of one resolution. [N, dim, H, W] to the same."""

    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x):
        return self.blocks(x)


class FasterNet(nn.Layer):
    """The FasterNet classifier.

    Args:
        in_channels: channels of the input.
        num_classes: width of the head; 0 leaves it out and the network returns the features [N, feature_dim].
        embed_dim: channels of the first stage; each further stage has twice as many.
        depths: blocks in each stage.
        mlp_ratio, n_div, layer_scale_init_value, act_layer, norm_layer, mixer, kernel_size: see ``FasterNetBlock``.
        patch_size: side and stride of the stem's patches.
        feature_dim: channels between the global pooling and the head.
        drop_path_rate: drop probability of the last block; those before rise to it linearly from 0.
        merge_sizes: stride of the merging layer before stage 2, 3, ...; 1 keeps the resolution.
        embed_act: puts the activation behind the stem and each merging layer, as the 2023 notebook did and the paper
            does not.
        embed_overlap: pixels by which the patches of stem and merging layers reach into their neighbours on each side
            (zeros beyond the edges); the paper's do not, 0. The maps keep their sizes.
        init: "paper" draws all weights with a deviation of 0.02, as the authors did; "he" draws a convolution's with
            sqrt(2 / inputs of an output), from which short trainings get further.

    Shape: [N, in_channels, H, W] to [N, num_classes]; H and W from patch_size * prod(merge_sizes) up (32 by default).

    Raises:
        ValueError: an argument is out of range, or the input is smaller than the network's stride.
    """

    pretrained_facts = None  # what ``bundle`` is made of
    kernels = None  # what computes the features in training instead of Paddle's layers: training.use_native_kernels

    def __init__(self, in_channels=3, num_classes=1000, embed_dim=96, depths=(1, 2, 8, 2), mlp_ratio=2.0, n_div=4,
                 patch_size=4, feature_dim=1280, drop_path_rate=0.1, layer_scale_init_value=0.0, act_layer=nn.ReLU,
                 norm_layer=nn.BatchNorm2D, mixer="pconv", merge_sizes=(2, 2, 2), embed_act=False,
                 embed_overlap=0, init="paper", kernel_size=KERNEL_SIZE):
        super().__init__()
        check_dynamic("FasterNet")
        in_channels = check_number("in_channels", in_channels, low=1, integer=True)
        num_classes = check_number("num_classes", num_classes, low=0, integer=True)
        dim = check_number("embed_dim", embed_dim, low=1, integer=True)
        patch_size = check_number("patch_size", patch_size, low=1, integer=True)
        feature_dim = check_number("feature_dim", feature_dim, low=1, integer=True)
        depths, merge_sizes = check_sizes("depths", depths, low=0), check_sizes("merge_sizes", merge_sizes, low=1)
        drop_path_rate = check_number("drop_path_rate", drop_path_rate, low=0, high=1)
        _check_layers(act_layer=act_layer, norm_layer=norm_layer)
        check_choice("init", init, INITS)
        check_type("embed_act", embed_act, bool)
        embed_overlap = check_number("embed_overlap", embed_overlap, low=0, integer=True)
        if len(merge_sizes) != len(depths) - 1:
            raise ValueError(f"merge_sizes={merge_sizes} must have one entry fewer than depths={depths}")
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.stride = patch_size
        self.out_channels, self.strides = (), ()  # of the maps that forward_features returns
        embed_act_layer = act_layer if embed_act else nn.Identity
        self.patch_embed = PatchEmbed(in_channels, dim, patch_size, norm_layer, embed_act_layer, embed_overlap)

        last_block = max(sum(depths) - 1, 1)
        stages = []
        for i, depth in enumerate(depths):
            if i > 0:
                stages.append(PatchMerging(dim, merge_sizes[i - 1], norm_layer, embed_act_layer, embed_overlap))
                self.stride *= merge_sizes[i - 1]
                dim *= 2
            stages.append(Stage([
                FasterNetBlock(dim, mlp_ratio, n_div, drop_path_rate * block / last_block, layer_scale_init_value,
                               act_layer, norm_layer, mixer, kernel_size)
                for block in range(sum(depths[:i]), sum(depths[:i]) + depth)]))
            self.out_channels, self.strides = (*self.out_channels, dim), (*self.strides, self.stride)
        self.stages = nn.Sequential(*stages)
        self.avgpool_pre_head = nn.Sequential(
            nn.AdaptiveAvgPool2D(1), nn.Conv2D(dim, feature_dim, 1, bias_attr=False), act_layer())
        self.head = nn.Linear(feature_dim, num_classes) if num_classes else nn.Identity()
        self._init_weights(init)

    def _init_weights(self, init):
        """The authors' normal of 0.02 is cut at 2, a hundred deviations, so it is a normal.

        He et al. 2015 by a layer's inputs: behind a block's norm and activation the second convolution then adds a
        branch of unit size, and no norm follows it that would undo another. The head keeps the authors' small start.
        """
        for layer in self.sublayers():
            if isinstance(layer, (nn.Conv2D, nn.Linear)):
                inputs = layer.weight.size // layer.weight.shape[0]
                he = init == "he" and isinstance(layer, nn.Conv2D)
                nn.initializer.Normal(std=(2 / inputs) ** 0.5 if he else 0.02)(layer.weight)
                if layer.bias is not None:
                    nn.initializer.Constant(0.0)(layer.bias)

    @property
    def bundle(self):
        """The ``Classifier`` of a pretrained network: its preprocessing and, while its head is the pretrained one, its
        class names. None for other networks, and after ``load_weights`` or ``set_state_dict``.
        """
        return bundle_of(self)

    def set_state_dict(self, state_dict, *args, **kwargs):
        self.pretrained_facts = None  # they were those of other weights
        return super().set_state_dict(state_dict, *args, **kwargs)

    set_dict = load_dict = set_state_dict

    def _check_input(self, x):
        check_type("input", x, paddle.Tensor)
        own = self.patch_embed.proj.weight.dtype
        if x.dtype not in (own, paddle.float16, paddle.bfloat16, paddle.float32):  # those that mixed precision casts
            raise ValueError(f"input of type {x.dtype} must be {own}; uint8 images go through a run's preprocess first")
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"input of shape {list(x.shape)} must be [N, {self.in_channels}, H, W]")
        if min(x.shape[2:]) < self.stride:
            raise ValueError(f"input of {x.shape[2]} x {x.shape[3]} pixels is smaller than the network's stride "
                             f"{self.stride}; resize it, or build the network with a smaller patch_size or merge_sizes")

    def forward_features(self, x):
        """The maps of all stages, first to last: with the default sizes [N, embed_dim * 2**i, H / (4 * 2**i), ...].

        ``out_channels`` and ``strides`` tell their channels and by how much they are smaller than the input.
        """
        check_dynamic("FasterNet")
        if paddle.in_dynamic_mode():
            self._check_input(x)
        if self._uses_kernels(x):
            return self.kernels.forward_features(self, x)
        if self.patch_embed.proj.weight.dtype == paddle.float64:
            x = x.astype("float64")  # images come as float32, which mixed precision does not cast to this type
        maps = []
        x = self.patch_embed(x)
        for layer in self.stages:
            x = layer(x)
            if isinstance(layer, Stage):
                maps.append(x)
        return maps

    def _uses_kernels(self, x):
        return self.kernels is not None and self.training and self.kernels.takes(self, x)

    def forward(self, x):
        if self._uses_kernels(x):
            self._check_input(x)
            return self.head(self.kernels(self, x))
        x = self.avgpool_pre_head(self.forward_features(x)[-1])
        return self.head(x.flatten(1))  # [N, feature_dim, 1, 1] to [N, feature_dim]


# Paper, table 8, and the original's cfg/*.yaml.
VARIANTS = {
    "fasternet_t0": dict(embed_dim=40, depths=(1, 2, 8, 2), act_layer=nn.GELU, drop_path_rate=0.0),
    "fasternet_t1": dict(embed_dim=64, depths=(1, 2, 8, 2), act_layer=nn.GELU, drop_path_rate=0.02),
    "fasternet_t2": dict(embed_dim=96, depths=(1, 2, 8, 2), act_layer=nn.ReLU, drop_path_rate=0.05),
    "fasternet_s": dict(embed_dim=128, depths=(1, 2, 13, 2), act_layer=nn.ReLU, drop_path_rate=0.1),
    "fasternet_m": dict(embed_dim=144, depths=(3, 4, 18, 3), act_layer=nn.ReLU, drop_path_rate=0.2),
    "fasternet_l": dict(embed_dim=192, depths=(3, 4, 18, 3), act_layer=nn.ReLU, drop_path_rate=0.3),
}


def list_models():
    """Names that ``create_model`` takes, smallest first."""
    return list(VARIANTS)


def plain_name(name):
    """A variant's name without what timm puts around it: "timm/fasternet_t0.in1k" is "fasternet_t0"."""
    if not isinstance(name, str):
        return name
    return re.sub(r"^(hf[-_]hub:)?timm/(?=fasternet_)|(?<=[a-z0-9])\.in1k$", "", name)


def create_model(name, pretrained=False, num_classes=10, **kwargs):
    """Build one of the six variants by name.

    Args:
        name: one of ``list_models()``, also as timm tags it, "fasternet_t0.in1k".
        pretrained: True fetches PaddleClas's ImageNet-1k weights into Paddle's weight cache; "cifar10" takes those that
            this package ships for T0 at 32 x 32 pixels; a path reads a file. A head of another size starts fresh, and
            a line on stderr says so.
        num_classes: ten unless told otherwise.
        **kwargs: any other argument of ``FasterNet``, over the variant's own.

    Raises:
        ValueError: the name is unknown, or the weights do not fit.
        ConnectionError: the weights cannot be fetched; the message says where to put them by hand.
        TypeError: an argument is unknown to ``FasterNet``.
    """
    name = plain_name(name)
    check_choice("name", name, VARIANTS)
    shipped = shipped_arguments(name, pretrained)
    model = FasterNet(num_classes=num_classes, **{**VARIANTS[name], **shipped, **kwargs})
    if pretrained:
        load_pretrained(model, name, pretrained)
    return model


def fasternet_t0(pretrained=False, num_classes=10, **kwargs):
    """FasterNet-T0: 3.9 M parameters, 0.34 G multiply-adds at 224 x 224 and 1,000 classes. See ``create_model``."""
    return create_model("fasternet_t0", pretrained, num_classes, **kwargs)


def fasternet_t1(pretrained=False, num_classes=10, **kwargs):
    """FasterNet-T1: 7.6 M parameters, 0.85 G multiply-adds at 224 x 224 and 1,000 classes. See ``create_model``."""
    return create_model("fasternet_t1", pretrained, num_classes, **kwargs)


def fasternet_t2(pretrained=False, num_classes=10, **kwargs):
    """FasterNet-T2: 15.0 M parameters, 1.90 G multiply-adds at 224 x 224 and 1,000 classes. See ``create_model``."""
    return create_model("fasternet_t2", pretrained, num_classes, **kwargs)


def fasternet_s(pretrained=False, num_classes=10, **kwargs):
    """FasterNet-S: 31.2 M parameters, 4.55 G multiply-adds at 224 x 224 and 1,000 classes. See ``create_model``."""
    return create_model("fasternet_s", pretrained, num_classes, **kwargs)


def fasternet_m(pretrained=False, num_classes=10, **kwargs):
    """FasterNet-M: 53.5 M parameters, 8.72 G multiply-adds at 224 x 224 and 1,000 classes. See ``create_model``."""
    return create_model("fasternet_m", pretrained, num_classes, **kwargs)


def fasternet_l(pretrained=False, num_classes=10, **kwargs):
    """FasterNet-L: 93.5 M parameters, 15.49 G multiply-adds at 224 x 224 and 1,000 classes. See ``create_model``."""
    return create_model("fasternet_l", pretrained, num_classes, **kwargs)
