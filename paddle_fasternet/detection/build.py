"""PP-YOLOE (https://arxiv.org/abs/2203.16250) out of PaddleDetection's parts, with any backbone and without YAML.

PaddleDetection's workspace is one for the whole process; parts made directly leave it as it is.
"""
from .._check import check_choice, check_number
from ..model import VARIANTS
from ._ppdet import ppdet
from .backbone import FasterNet

# (width, depth) of neck and head beside the full PP-YOLOE: its configs name them, t 0.375 and 0.33, s 0.5 and 0.33,
# m 0.75 and 0.67, l 1 and 1 (configs/ppyoloe/ppyoloe_plus_crn_*_coco.yml in PaddleDetection).
NECKS = {"fasternet_t0": (0.375, 0.33), "fasternet_t1": (0.5, 0.33), "fasternet_t2": (0.5, 0.33),
         "fasternet_s": (0.75, 0.67), "fasternet_m": (1.0, 1.0), "fasternet_l": (1.0, 1.0)}
_SMALL = NECKS["fasternet_t0"]
STRIDES = (32, 16, 8)

# Backbones of PaddleDetection to compare with; without pretrained weights, all of them trained.
OTHERS = {
    "ResNet18": lambda parts: parts.ResNet(depth=18, variant="d", return_idx=[1, 2, 3], freeze_at=-1,
                                           freeze_norm=False),
    "MobileNetV3": lambda parts: parts.MobileNetV3(model_name="large", feature_maps=[7, 13, 16]),
    "CSPResNet": lambda parts: parts.CSPResNet(width_mult=_SMALL[0], depth_mult=_SMALL[1], use_large_stem=True),
}


def list_backbones():
    """Names that ``build_detector`` takes."""
    return [*VARIANTS, *OTHERS]


def build_detector(num_classes, backbone="fasternet_t0", pretrained=False, nms=0.6, embed_overlap=None):
    """PP-YOLOE with a backbone.

    Args:
        num_classes: classes, without a background.
        backbone: one of ``list_backbones()``. Beside PaddleDetection's own backbones neck and head are those of T0.
        pretrained: see ``detection.FasterNet``; False starts from He's initialisation.
        embed_overlap: see ``detection.FasterNet``; of no meaning for other backbones.
        nms: overlap from which the lower of two boxes of one class is dropped.

    Returns:
        PaddleDetection's ``YOLOv3``, the class that it builds PP-YOLOE with. In training mode a call with {"image",
        "gt_class", "gt_bbox", "pad_gt_mask", "epoch_id"} gives losses; an epoch_id of 0 chooses the static
        assignment, 1 the task-aligned one. In evaluation mode a call with {"image", "im_shape", "scale_factor"} gives
        {"bbox" [n, 6]: label, score, x0, y0, x1, y1; "bbox_num" [N]}.
    """
    num_classes = check_number("num_classes", num_classes, low=1, integer=True)
    nms = check_number("nms", nms, low=0.0, high=1.0)
    check_choice("backbone", backbone, list_backbones())
    if pretrained and backbone in OTHERS:
        raise ValueError(f"pretrained={pretrained!r} goes with a FasterNet; backbone={backbone!r} starts from scratch")
    parts = ppdet.modeling
    body = OTHERS[backbone](parts) if backbone in OTHERS else FasterNet(
        backbone, pretrained, embed_overlap=embed_overlap, init="paper" if pretrained else "he")
    width, depth = NECKS.get(backbone, _SMALL)
    neck = parts.CustomCSPPAN([each.channels for each in body.out_shape], [768, 384, 192], act="swish", spp=True,
                              width_mult=width, depth_mult=depth)
    head = parts.PPYOLOEHead(
        [each.channels for each in neck.out_shape], num_classes, fpn_strides=STRIDES, static_assigner_epoch=1,
        static_assigner=parts.assigners.ATSSAssigner(topk=9, num_classes=num_classes),
        assigner=parts.assigners.TaskAlignedAssigner(topk=13, alpha=1.0, beta=6.0),
        nms=parts.layers.MultiClassNMS(score_threshold=0.01, nms_top_k=1000, keep_top_k=300, nms_threshold=nms))
    return parts.YOLOv3(body, neck, head, post_process=None)
