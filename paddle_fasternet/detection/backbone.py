"""FasterNet as a backbone of PaddleDetection.

Original: detection/backbones/fasternet.py and the ``fork_feat`` mode of models/fasternet.py in
https://github.com/JierunChen/FasterNet. What differs: the maps to return are an argument, the norms after them are
optional, and stages can be frozen.
"""
import numpy as np
from paddle import nn

from .. import model as networks
from .._check import check_choice, check_number, check_sizes, check_type
from ..weights import find_pretrained, shipped_arguments
from ..weights.load import apply_weights, match_weights
from ._ppdet import ppdet

ShapeSpec = ppdet.modeling.shape_spec.ShapeSpec


@ppdet.core.workspace.register
class FasterNet(networks.FasterNet):
    """``backbone: FasterNet`` in a YAML of PaddleDetection.

    The maps have strides 4, 8, 16 and 32 and embed_dim * (1, 2, 4, 8) channels, with any pretrained weights.

    Args:
        model: one of ``list_models()``.
        pretrained: False; True for PaddleClas's ImageNet-1k weights; "cifar10" for those that this package ships for
            T0; or a weight file of a classifier, a backbone or a whole detector.
        return_idx: stages whose maps are returned, 0 to 3, ascending.
        freeze_at: last frozen stage; 0 freezes the stem and the first stage, -1 nothing. Norms of frozen stages keep
            their statistics.
        freeze_norm: freeze all norms, weights and statistics.
        norm_type: "bn" or "sync_bn". Both build BatchNorm2D: PaddleDetection's trainer converts the second where
            several devices train.
        mixer, n_div, drop_path_rate, init: see ``paddle_fasternet.FasterNet``; drop_path_rate None is the variant's.
        out_norm: a BatchNorm2D after each returned map (norm0, norm2, ...), as in the authors' detectors.
        embed_overlap: see ``paddle_fasternet.FasterNet``; None is 0, and 1 with pretrained="cifar10", whose patches
            overlap. A smaller kernel in the file is framed by zeros, so it computes the same.

    Shape: a dict with "image" [N, 3, H, W] to a list of [N, channels, H / stride, W / stride]; H and W multiples of 32.

    Raises:
        ValueError: an argument is unknown, or the weights do not fit.
    """

    __shared__ = ["norm_type"]

    def __init__(self, model="fasternet_t0", pretrained=False, return_idx=(1, 2, 3), freeze_at=-1, freeze_norm=False,
                 norm_type="bn", mixer="pconv", n_div=4, out_norm=False, drop_path_rate=None, embed_overlap=None,
                 init="paper"):
        check_choice("model", model, networks.VARIANTS)
        check_choice("norm_type", norm_type, ("bn", "sync_bn"))
        check_type("freeze_norm", freeze_norm, bool)
        check_type("out_norm", out_norm, bool)
        freeze_at = check_number("freeze_at", freeze_at, low=-1, high=3, integer=True)
        indices = check_sizes("return_idx", return_idx, low=0)
        if not indices or list(indices) != sorted(set(indices)) or indices[-1] > 3:
            raise ValueError(f"return_idx={return_idx!r} must hold ascending stages out of 0, 1, 2, 3")
        if embed_overlap is None:
            embed_overlap = shipped_arguments(model, pretrained).get("embed_overlap", 0)
        arguments = dict(networks.VARIANTS[model], mixer=mixer, n_div=n_div, embed_overlap=embed_overlap, init=init)
        if drop_path_rate is not None:
            arguments["drop_path_rate"] = drop_path_rate
        super().__init__(num_classes=0, **arguments)
        del self.avgpool_pre_head, self.head  # a detector has heads of its own
        self.return_idx = list(indices)
        self.out_norm, self.embed_overlap = out_norm, embed_overlap
        for index in indices if out_norm else ():
            self.add_sublayer(f"norm{2 * index}", nn.BatchNorm2D(self.out_channels[index]))
        if pretrained:
            _load(self, model, pretrained)
        self._freeze(freeze_at, freeze_norm)

    def _freeze(self, freeze_at, freeze_norm):
        frozen = [self.patch_embed, *self.stages[:2 * freeze_at + 1]] if freeze_at >= 0 else []
        for parameter in [parameter for layer in frozen for parameter in layer.parameters()]:
            parameter.stop_gradient = True
        layers = list(self.sublayers()) if freeze_norm else [each for layer in frozen for each in layer.sublayers()]
        for layer in layers:
            if isinstance(layer, nn.BatchNorm2D):
                layer._use_global_stats = True
                layer.weight.stop_gradient = layer.bias.stop_gradient = True

    def forward(self, inputs):
        maps = self.forward_features(inputs["image"])
        return [getattr(self, f"norm{2 * index}")(maps[index]) if self.out_norm else maps[index]
                for index in self.return_idx]

    @property
    def out_shape(self):
        """``ShapeSpec`` of each returned map."""
        return [ShapeSpec(channels=self.out_channels[index], stride=self.strides[index]) for index in self.return_idx]


def _load(backbone, name, pretrained):
    """Everything but the norms after the maps must come out of the file, and nothing of its backbone may be left."""
    report, values = match_weights(backbone, find_pretrained(name, pretrained), adapt=_frame)
    report.missing = [name for name in report.missing if not name.startswith("norm")]
    report.unexpected = [name for name in report.unexpected if name.startswith(("patch_embed.", "stages."))]
    complaint = report.complaint("Is it another variant, mixer, n_div or embed_overlap?")
    if complaint:
        raise ValueError(complaint)
    apply_weights(values)


def _frame(array, shape):
    """A convolution's kernel in the middle of a larger one of zeros; anything else as it is.

    With the padding that ``embed_overlap`` brings along, the larger kernel computes what the smaller one did.
    """
    if array.ndim != 4 or list(array.shape[:2]) != shape[:2] or not all(a <= b for a, b in zip(array.shape, shape)):
        return array
    missing = [large - small for small, large in zip(array.shape, shape)]
    return np.pad(array, [(each // 2, each - each // 2) for each in missing])
