"""FasterNet in detectors, with PaddleDetection: importing this module registers ``backbone: FasterNet`` for its YAML.

    from paddle_fasternet.detection import load_detector
    detector = load_detector("work/detect")
    for box in detector("cell.jpg"): print(box)
"""
from .backbone import FasterNet
from .build import build_detector, list_backbones
from .data import BoxSet, load_boxes
from .detector import Box, Detector, export_detector, load_detector
from .example import draw_shapes, example_folder
from .plots import draw_boxes, plot_boxes, plot_detection_history
from .score import Score, match, score
from .train import DetectConfig, train_detector

__all__ = ["Box", "BoxSet", "DetectConfig", "Detector", "FasterNet", "Score", "build_detector", "draw_boxes",
           "draw_shapes", "example_folder", "export_detector", "list_backbones", "load_boxes", "load_detector", "match",
           "plot_boxes", "plot_detection_history", "score", "train_detector"]
