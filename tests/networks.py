"""Small FasterNets for tests."""
import numpy as np
import paddle
from paddle import nn

from paddle_fasternet import FasterNet

TINY = dict(embed_dim=8, depths=(1, 1, 1, 1), feature_dim=32)  # what stands in for fasternet_t0 where tests train it
# the networks of the files in tests/golden
RECORDED = dict(embed_dim=16, depths=(1, 1, 2, 1), feature_dim=64, act_layer=nn.GELU, num_classes=10,
                drop_path_rate=0.0)
RECORDED_LS = dict(embed_dim=24, depths=(1, 2, 1, 1), feature_dim=32, num_classes=7, layer_scale_init_value=0.3,
                   n_div=3)


def trained_like(seed=3, **arguments):
    """A network of two stages in evaluation mode, with weights and BatchNorm statistics as training leaves them.

    Every layer matters in the logits: the authors' initialisation is too small for that.
    """
    paddle.seed(seed)
    settings = {"embed_dim": 8, "depths": (1, 1), "merge_sizes": (2,), "feature_dim": 16, "num_classes": 5, **arguments}
    model, learnt, counted = FasterNet(**settings), np.random.default_rng(0), np.random.default_rng(1)
    for layer in model.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            for value, rng, low, high in ((layer.weight, learnt, 0.5, 1.5), (layer.bias, learnt, -0.5, 0.5),
                                          (layer._mean, counted, -0.2, 0.2), (layer._variance, counted, 0.3, 2.0)):
                value.set_value(rng.uniform(low, high, value.shape).astype(np.float32))
        elif isinstance(layer, (nn.Conv2D, nn.Linear)):
            nn.initializer.Normal(std=float(np.prod(layer.weight.shape[1:]) ** -0.5))(layer.weight)
    model.eval()
    return model


def telling_apart(**arguments):
    """A network of four stages in evaluation mode whose outputs differ from image to image (He's initialisation)."""
    paddle.seed(0)
    model = FasterNet(**{**TINY, **arguments})
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.initializer.KaimingNormal()(parameter)
    model.eval()
    return model
