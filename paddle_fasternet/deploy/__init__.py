"""From a trained network to fast predictions: folding, export, and one predictor over several engines."""
from .engines import EAGER, ENGINES, PRECISIONS, offered
from .exporter import FORMATS, export, packages_of
from .fuse import fuse_conv_bn
from .onnx_graph import to_onnx
from .predictor import Predictor, start_fastest

__all__ = ["EAGER", "ENGINES", "FORMATS", "PRECISIONS", "Predictor", "export", "fuse_conv_bn", "offered",
           "packages_of", "start_fastest", "to_onnx"]
