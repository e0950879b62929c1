"""FasterNet and its partial convolution (PConv) for PaddlePaddle; see README.md."""
# Import zlib before Paddle: Paddle 2.6 bundles its own copy, and a Python whose zlib is a separate shared module
# crashes if it loads it afterwards.
import zlib as _zlib  # noqa: F401

from ._remarks import without_remarks as _without_remarks

try:
    with _without_remarks():
        import paddle as _paddle  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "paddle":
        raise
    raise ImportError(
        "paddle_fasternet needs PaddlePaddle 2.6 or 3.x, which is not installed here. On a CPU: pip install "
        "paddlepaddle; with an NVIDIA GPU: https://www.paddlepaddle.org.cn/en/install/quick gives the command"
    ) from error

from .bundle import Classifier
from .data import ImageFolder, ImageSet, get_cifar10_labels, list_datasets, load_dataset, load_folder
from .deploy import Predictor, export, fuse_conv_bn
from .evaluation import evaluate
from .explain import LimeExplainer
from .layers import DropPath, DWConv, PConv, drop_path
from .losses import LabelSmoothingCrossEntropy
from .mixers import register_mixer
from .model import (
    FasterNet,
    FasterNetBlock,
    create_model,
    fasternet_l,
    fasternet_m,
    fasternet_s,
    fasternet_t0,
    fasternet_t1,
    fasternet_t2,
    list_models,
)
from .operators import replace_conv
from .plots import plot_learning_curve, show_images
from .training import History, TrainConfig, fit, load_run
from .weights import load_weights, save_weights

__version__ = "0.1.0"

__all__ = [
    "Classifier", "DWConv", "DropPath", "FasterNet", "FasterNetBlock", "History", "ImageFolder", "ImageSet",
    "LabelSmoothingCrossEntropy", "LimeExplainer", "PConv", "Predictor", "TrainConfig", "create_model", "drop_path",
    "evaluate", "export", "fasternet_l", "fasternet_m", "fasternet_s", "fasternet_t0", "fasternet_t1",
    "fasternet_t2", "fit", "fuse_conv_bn", "get_cifar10_labels", "list_datasets", "list_models", "load_dataset",
    "load_folder", "load_run", "load_weights", "plot_learning_curve", "register_mixer", "replace_conv", "save_weights",
    "show_images",
]
