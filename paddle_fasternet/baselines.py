"""The networks that the paper measures itself with, for comparing speed; they come without weights.

ResNet50, MobileNetV2 and ShuffleNetV2 are paddle.vision's. The other three stand here as small as they can be while
they compute what the published ones compute and have exactly their parameters:

- MobileViT-XXS: Mehta and Rastegari, https://arxiv.org/abs/2110.02178, at 256 x 256; 1,272,024 parameters.
- Swin-B: Liu et al., https://arxiv.org/abs/2103.14030, at 224 x 224; 87,768,224 parameters.
- ConvNeXt-B: Liu et al., https://arxiv.org/abs/2201.03545, at 224 x 224; 88,591,464 parameters.

Nothing here is meant for training: there is no stochastic depth and no initialisation of their own.
"""
import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ._check import check_choice, check_number


class MatMul(nn.Layer):
    """The product of two activations, as a layer so that ``benchmark.count_macs`` sees it."""

    def __init__(self, transpose_y=False):
        super().__init__()
        self.transpose_y = transpose_y

    def forward(self, x, y):
        return paddle.matmul(x, y, transpose_y=self.transpose_y)

    @staticmethod
    def macs(inputs, output):
        """Multiply-adds of a call: each value of the output takes one for each column of the first factor."""
        return int(np.prod(output.shape)) * inputs[0].shape[-1]


class Attention(nn.Layer):
    """Multi-head self-attention. [B, N, dim] to the same.

    Added to the scores are ``bias`` [heads, N, N] and ``mask`` [M, 1, N, N], which repeats every M entries of B.
    """

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.scores, self.mix = MatMul(transpose_y=True), MatMul()

    def forward(self, x, bias=None, mask=None):
        count, dim = x.shape[1:]
        qkv = self.qkv(x).reshape([-1, count, 3, self.heads, dim // self.heads])
        q, k, v = qkv.transpose([2, 0, 3, 1, 4]).unbind(0)  # each [B, heads, N, dim / heads]
        scores = self.scores(q * (dim // self.heads) ** -0.5, k)
        if bias is not None:
            scores = scores + bias
        if mask is not None:
            scores = (scores.reshape([-1, mask.shape[0], self.heads, count, count]) + mask).reshape(
                [-1, self.heads, count, count])
        x = self.mix(F.softmax(scores), v)
        return self.proj(x.transpose([0, 2, 1, 3]).reshape([-1, count, dim]))


def _conv(in_channels, out_channels, kernel_size=1, stride=1, groups=1, act=True):
    """Convolution, BatchNorm and SiLU, as all of MobileViT has them."""
    layers = [nn.Conv2D(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups,
                        bias_attr=False), nn.BatchNorm2D(out_channels)]
    return nn.Sequential(*layers, *([nn.Silu()] if act else []))


class InvertedResidual(nn.Layer):
    """MobileNetV2's block with an expansion of 2. [N, C, H, W] to [N, out_channels, H / stride, W / stride]."""

    def __init__(self, channels, out_channels, stride):
        super().__init__()
        self.shortcut = stride == 1 and channels == out_channels
        self.layers = nn.Sequential(
            _conv(channels, 2 * channels), _conv(2 * channels, 2 * channels, 3, stride, groups=2 * channels),
            _conv(2 * channels, out_channels, act=False))

    def forward(self, x):
        return x + self.layers(x) if self.shortcut else self.layers(x)


class TransformerBlock(nn.Layer):
    """Attention of four heads and an MLP of ratio 2, each behind its LayerNorm. [B, N, dim] to the same."""

    def __init__(self, dim):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, 4)
        self.norm2, self.mlp = nn.LayerNorm(dim), nn.Sequential(nn.Linear(dim, 2 * dim), nn.Silu(),
                                                                nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MobileViTBlock(nn.Layer):
    """Convolutions, a transformer over all patches of 2 x 2 pixels, convolutions. [N, C, H, W] to the same."""

    def __init__(self, channels, dim, depth):
        super().__init__()
        self.local = nn.Sequential(_conv(channels, channels, 3), nn.Conv2D(channels, dim, 1, bias_attr=False))
        self.transformer = nn.Sequential(*[TransformerBlock(dim) for _ in range(depth)], nn.LayerNorm(dim))
        self.proj, self.fusion = _conv(dim, channels), _conv(2 * channels, channels, 3)

    def forward(self, x):
        local = self.local(x)
        dim, height, width = local.shape[1:]
        # pixels at the same place of their patch attend to each other: [N, dim, H, W] to [4 N, H W / 4, dim]
        patches = local.reshape([-1, dim, height // 2, 2, width // 2, 2]).transpose([0, 3, 5, 2, 4, 1])
        patches = self.transformer(patches.reshape([-1, height * width // 4, dim]))
        patches = patches.reshape([-1, 2, 2, height // 2, width // 2, dim]).transpose([0, 5, 3, 1, 4, 2])
        return self.fusion(paddle.concat([x, self.proj(patches.reshape([-1, dim, height, width]))], axis=1))


class MobileViTXXS(nn.Layer):
    """MobileViT-XXS. [N, 3, S, S] to [N, num_classes], S a multiple of 64."""

    def __init__(self, num_classes=1000):
        super().__init__()
        self.layers = nn.Sequential(
            _conv(3, 16, 3, 2), InvertedResidual(16, 16, 1),
            InvertedResidual(16, 24, 2), InvertedResidual(24, 24, 1), InvertedResidual(24, 24, 1),
            InvertedResidual(24, 48, 2), MobileViTBlock(48, 64, 2),
            InvertedResidual(48, 64, 2), MobileViTBlock(64, 80, 4),
            InvertedResidual(64, 80, 2), MobileViTBlock(80, 96, 3),
            _conv(80, 320), nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(320, num_classes))

    def forward(self, x):
        if x.shape[2] % 64 or x.shape[3] % 64:
            raise ValueError(f"input of {x.shape[2]} x {x.shape[3]} pixels: MobileViT-XXS takes multiples of 64")
        return self.layers(x)


class SwinBlock(nn.Layer):
    """Attention within windows of 7 x 7, shifted by 3 in every other block. [B, H, W, dim] to the same."""

    WINDOW = 7

    def __init__(self, dim, heads, size, shifted):
        super().__init__()
        window = self.WINDOW
        self.shift = window // 2 if shifted and size > window else 0
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim), nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(),
                                                                nn.Linear(4 * dim, dim))
        self.position_bias = self.create_parameter([(2 * window - 1) ** 2, heads],
                                                   default_initializer=nn.initializer.Normal(std=0.02))
        # a pair of pixels is known by its offset, -6..6 in each direction
        place = paddle.stack(paddle.meshgrid(paddle.arange(window), paddle.arange(window))).reshape([2, -1])
        offset = place.unsqueeze(2) - place.unsqueeze(1) + window - 1
        self.register_buffer("offset", (offset[0] * (2 * window - 1) + offset[1]).flatten(), persistable=False)
        self.register_buffer("mask", self._mask(size) if self.shift else None, persistable=False)

    def _windows(self, x):
        """[B, H, W, C] to [B * windows, 49, C]."""
        size, window, channels = x.shape[1], self.WINDOW, x.shape[3]
        count = size // window
        x = x.reshape([-1, count, window, count, window, channels]).transpose([0, 1, 3, 2, 4, 5])
        return x.flatten(3, 4).flatten(0, 2)  # a reshape here breaks Paddle 3.3's inference with oneDNN

    def _mask(self, size):
        """[windows, 1, 49, 49]: -100 between pixels that only the cyclic shift made neighbours."""
        line = paddle.zeros([size])
        line[size - self.WINDOW:size - self.shift] = 1
        line[size - self.shift:] = 2
        region = self._windows((3 * line.unsqueeze(1) + line).reshape([1, size, size, 1])).squeeze(2)
        return ((region.unsqueeze(1) != region.unsqueeze(2)).astype("float32") * -100).unsqueeze(1)

    def forward(self, x):
        size, dim = x.shape[1], x.shape[3]
        window, count, area = self.WINDOW, size // self.WINDOW, self.WINDOW ** 2
        shortcut, x = x, self.norm1(x)
        if self.shift:
            x = paddle.roll(x, [-self.shift, -self.shift], [1, 2])
        bias = paddle.index_select(self.position_bias, self.offset).reshape([area, area, -1]).transpose([2, 0, 1])
        x = self.attention(self._windows(x), bias, self.mask)
        x = x.reshape([-1, count, count, window, window, dim]).transpose([0, 1, 3, 2, 4, 5])
        x = x.reshape([-1, size, size, dim])
        if self.shift:
            x = paddle.roll(x, [self.shift, self.shift], [1, 2])
        x = shortcut + x
        return x + self.mlp(self.norm2(x))


class SwinMerging(nn.Layer):
    """Each 2 x 2 pixels to one. [B, H, W, dim] to [B, H / 2, W / 2, 2 dim]."""

    def __init__(self, dim):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias_attr=False)

    def forward(self, x):
        half, dim = x.shape[1] // 2, x.shape[3]
        x = x.reshape([-1, half, 2, half, 2, dim]).transpose([0, 1, 3, 4, 2, 5]).reshape([-1, half, half, 4 * dim])
        return self.reduction(self.norm(x))


class SwinB(nn.Layer):
    """Swin-B with windows of 7. [N, 3, 224, 224] to [N, num_classes]."""

    def __init__(self, num_classes=1000, dim=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), image_size=224):
        super().__init__()
        self.image_size, size = image_size, image_size // 4
        self.embed, self.embed_norm = nn.Conv2D(3, dim, 4, stride=4), nn.LayerNorm(dim)
        layers = []
        for stage, depth in enumerate(depths):
            if stage:
                layers.append(SwinMerging(dim))
                dim, size = 2 * dim, size // 2
            layers += [SwinBlock(dim, heads[stage], size, shifted=i % 2 == 1) for i in range(depth)]
        self.layers = nn.Sequential(*layers, nn.LayerNorm(dim))
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x):
        if list(x.shape[2:]) != [self.image_size] * 2:
            raise ValueError(f"input of {x.shape[2]} x {x.shape[3]} pixels: this Swin-B takes {self.image_size} x "
                             f"{self.image_size}")
        x = self.layers(self.embed_norm(self.embed(x).transpose([0, 2, 3, 1])))
        return self.head(F.adaptive_avg_pool2d(x.transpose([0, 3, 1, 2]), 1).flatten(1))


class ChannelNorm(nn.Layer):
    """LayerNorm over the channels of [N, C, H, W]."""

    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim, epsilon=1e-6)

    def forward(self, x):
        return self.norm(x.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])


class ConvNeXtBlock(nn.Layer):
    """Depthwise 7 x 7, LayerNorm, an MLP of ratio 4, layer scale. [N, dim, H, W] to the same."""

    def __init__(self, dim):
        super().__init__()
        self.depthwise = nn.Conv2D(dim, dim, 7, padding=3, groups=dim)
        self.mlp = nn.Sequential(nn.LayerNorm(dim, epsilon=1e-6), nn.Linear(dim, 4 * dim), nn.GELU(),
                                 nn.Linear(4 * dim, dim))
        self.scale = self.create_parameter([dim], default_initializer=nn.initializer.Constant(1e-6))

    def forward(self, x):
        branch = self.mlp(self.depthwise(x).transpose([0, 2, 3, 1])) * self.scale
        return x + branch.transpose([0, 3, 1, 2])


def ConvNeXtB(num_classes=1000, dims=(128, 256, 512, 1024), depths=(3, 3, 27, 3)):
    """ConvNeXt-B. [N, 3, H, W] to [N, num_classes], H and W multiples of 32."""
    layers = [nn.Conv2D(3, dims[0], 4, stride=4), ChannelNorm(dims[0])]
    for stage, (dim, depth) in enumerate(zip(dims, depths)):
        if stage:
            layers += [ChannelNorm(dims[stage - 1]), nn.Conv2D(dims[stage - 1], dim, 2, stride=2)]
        layers += [ConvNeXtBlock(dim) for _ in range(depth)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.LayerNorm(dims[-1], epsilon=1e-6),
                         nn.Linear(dims[-1], num_classes))


# What builds it and the side of the images that the paper measures it with.
BASELINES = {
    "mobilenet_v2": (lambda **kwargs: paddle.vision.models.mobilenet_v2(**kwargs), 224),
    "shufflenet_v2": (lambda **kwargs: paddle.vision.models.shufflenet_v2_x1_0(**kwargs), 224),
    "mobilevit_xxs": (MobileViTXXS, 256),
    "resnet50": (lambda **kwargs: paddle.vision.models.resnet50(**kwargs), 224),
    "swin_b": (SwinB, 224),
    "convnext_b": (ConvNeXtB, 224),
}


def list_baselines():
    """Names that ``create_baseline`` takes."""
    return list(BASELINES)


def create_baseline(name, num_classes=1000):
    """Build a network to compare with; its weights are random.

    Args:
        name: one of ``list_baselines()``.
        num_classes: width of the head.

    Returns:
        (network, side of its images).
    """
    check_choice("name", name, BASELINES)
    num_classes = check_number("num_classes", num_classes, low=1, integer=True)
    build, image_size = BASELINES[name]
    return build(num_classes=num_classes), image_size
