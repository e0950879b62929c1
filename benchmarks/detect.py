"""Detectors: PP-YOLOE on FasterNet and on other backbones, and with PConv in its neck; training steps and inference.

    python benchmarks/detect.py
    python benchmarks/detect.py --only fasternet_t0 "fasternet_t0, PConv in the neck" ResNet18

Paddle's layers at 288 x 384 pixels (what ``DetectConfig`` makes of 640 x 480), three classes, ten objects a picture.
Every detector has a process of its own; all of them take turns. Writes work/results/detect.json: "train" (forward,
backward, AdamW; batch 8), "eager" (one picture to boxes in Paddle's layers), "inference" (the same in Paddle
Inference), and "networks" with the parameters.
"""
import tempfile

import numpy as np
import paddle
from turns import Contender, Record, chosen, in_turn, options, prepare

from paddle_fasternet import replace_conv
from paddle_fasternet.benchmark import count_parameters

SHAPE, CLASSES = (288, 384), 3
DETECTORS = {
    "fasternet_t0": ("fasternet_t0", ""), "fasternet_t0, PConv in the neck": ("fasternet_t0", "neck"),
    "fasternet_t1": ("fasternet_t1", ""), "ResNet18": ("ResNet18", ""), "MobileNetV3": ("MobileNetV3", ""),
    "CSPResNet": ("CSPResNet", ""), "CSPResNet, PConv in backbone": ("CSPResNet", "backbone"),
    "CSPResNet, PConv in the neck": ("CSPResNet", "neck"),
}


def build(backbone, part):
    """A detector; ``part`` of it with PConv for its 3 x 3 convolutions where that is not ""."""
    from paddle_fasternet.detection import build_detector
    paddle.seed(0)
    model = build_detector(CLASSES, backbone)
    if part:
        setattr(model, part, replace_conv(getattr(model, part)).model)
    return model


def training(backbone, part, batch, shape):
    """A training step with AdamW."""
    model, rng = build(backbone, part), np.random.default_rng(0)
    model.train()
    optimizer = paddle.optimizer.AdamW(1e-4, parameters=model.parameters())
    corner = rng.uniform(0, 0.6, (batch, 10, 2)) * [shape[1], shape[0]]
    boxes = np.concatenate([corner, corner + rng.uniform(20, 80, corner.shape)], 2)
    inputs = {"image": rng.standard_normal((batch, 3, *shape)).astype(np.float32), "gt_bbox": boxes.astype(np.float32),
              "gt_class": rng.integers(0, CLASSES, (batch, 10, 1)), "pad_gt_mask": np.ones((batch, 10, 1), np.float32)}
    inputs = {name: paddle.to_tensor(array) for name, array in inputs.items()}

    def call():
        loss = model({**inputs, "epoch_id": 1})["loss"]
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        float(loss)

    return call


def detecting(backbone, part, shape, exported):
    """From one picture in memory to boxes, in Paddle's layers or in Paddle Inference."""
    from paddle_fasternet.detection import Detector, export_detector, load_detector
    from paddle_fasternet.detection.detector import EagerNetwork
    model = build(backbone, part)
    model.eval()
    detector = Detector(EagerNetwork(model), ("a", "b", "c"), shape)
    if exported:
        detector = load_detector(export_detector(detector, tempfile.mkdtemp()))
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    return lambda: detector(picture)


def main():
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", metavar="DETECTOR")
    given = prepare(parser, ["ppdet", "pycocotools"])
    if given.quick:
        given.only = given.only or ["fasternet_t0"]
    labels = chosen(parser, given.only, list(DETECTORS))
    shape, batch = ((96, 96), 2) if given.quick else (SHAPE, 8)
    record = Record(given.out, "detect", turns=given.pace["turns"], shape=shape, networks=[
        {"detector": label, "parameters": count_parameters(build(*DETECTORS[label]))} for label in labels])
    arguments = {label: dict(zip(("backbone", "part"), DETECTORS[label]), shape=shape) for label in labels}
    record.add("train", in_turn({label: Contender(training, batch, {**arguments[label], "batch": batch})
                                 for label in labels}, **given.pace))
    for key, exported in (("eager", False), ("inference", True)):
        record.add(key, in_turn({label: Contender(detecting, 1, {**arguments[label], "exported": exported})
                                 for label in labels}, **given.pace))
    record.finish()


if __name__ == "__main__":
    main()
