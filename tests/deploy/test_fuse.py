"""Folding, and writing ONNX."""

import numpy as np
import onnxruntime
import paddle
import pytest
from deploying import answer, batch, close, small
from paddle import nn

from paddle_fasternet import FasterNet
from paddle_fasternet.deploy import (
    Predictor,
    fuse_conv_bn,
    to_onnx,
)


def own_mixer(dim):
    """A mixer of a user: a convolution with a bias, and its BatchNorm."""
    return nn.Sequential(nn.Conv2D(dim, dim, 3, padding=1, groups=dim), nn.BatchNorm2D(dim), nn.ReLU())


NETWORKS = [{"mixer": name} for name in ("pconv", "dwconv", "gconv", "conv", "identity", own_mixer)] + [
    {"act_layer": nn.GELU, "layer_scale_init_value": 0.3}, {"n_div": 1}, {"embed_act": True, "patch_size": 2},
    {"merge_sizes": (1,), "patch_size": 1}, {"num_classes": 0}, {"norm_layer": nn.Identity},
    {"embed_overlap": 1}, {"mixer": lambda dim: nn.Conv2D(dim, dim, 4, padding=[1, 2, 1, 2])}]


@pytest.mark.parametrize("arguments", NETWORKS, ids=str)
def test_folded_and_written_as_onnx_it_answers_the_same(arguments):
    model, x = small(**arguments), batch()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    expected = answer(model, x)
    folded = fuse_conv_bn(model)
    assert close(answer(folded, x), expected)
    assert not any(isinstance(layer, nn.BatchNorm2D) for layer in folded.sublayers())
    session = onnxruntime.InferenceSession(to_onnx(folded, (3, 16, 16)).SerializeToString())
    unfolded = onnxruntime.InferenceSession(to_onnx(model, (3, 16, 16)).SerializeToString())
    for part in (x, x[:1]):  # the batch size is free
        assert close(session.run(None, {"x": part})[0], expected[:len(part)])
        assert close(unfolded.run(None, {"x": part})[0], expected[:len(part)])
    after = model.state_dict()
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name].numpy()) for name in before)


def test_folding_by_hand():
    pair = nn.Sequential(nn.Conv2D(1, 1, 1), nn.BatchNorm2D(1, epsilon=0.0))
    for value, number in ((pair[0].weight, 3.0), (pair[0].bias, 1.0), (pair[1].weight, 2.0), (pair[1].bias, 5.0),
                          (pair[1]._mean, 7.0), (pair[1]._variance, 4.0)):
        value.set_value(paddle.full(value.shape, number))
    pair.train()
    folded = fuse_conv_bn(pair)
    # ((3 x + 1) - 7) / 2 * 2 + 5 = 3 x - 1
    assert float(folded[0].weight) == 3.0 and float(folded[0].bias) == -1.0
    assert isinstance(folded[1], nn.Identity) and pair.training and isinstance(pair[1], nn.BatchNorm2D)


def test_a_convolution_with_two_normalisations_stays():
    class TwoHeads(nn.Layer):
        def __init__(self):
            super().__init__()
            conv = nn.Conv2D(3, 4, 1)
            self.a, self.b = nn.Sequential(conv, nn.BatchNorm2D(4)), nn.Sequential(conv, nn.BatchNorm2D(4))
            self.b[1]._variance.set_value(paddle.full([4], 9.0))

        def forward(self, x):
            return paddle.concat([self.a(x), self.b(x)], 1)

    model, x = TwoHeads(), batch()
    model.eval()
    assert close(answer(fuse_conv_bn(model), x), answer(model, x))


def test_a_batchnorm_that_follows_no_convolution_stays():
    model = nn.Sequential(nn.Conv2D(3, 4, 1), nn.ReLU(), nn.BatchNorm2D(4))
    assert isinstance(fuse_conv_bn(model)[2], nn.BatchNorm2D)
    with pytest.raises(TypeError, match="model must be a Layer, not str"):
        fuse_conv_bn("fasternet_t0")


def test_a_forward_of_ones_own_is_not_passed_over():
    class Half(FasterNet):
        def forward(self, x):
            return super().forward(x) / 2

    class PConv(nn.Layer):  # the name alone proves nothing
        def __init__(self, dim):
            super().__init__()
            self.partial_conv3 = nn.Conv2D(dim // 4, dim // 4, 3, padding=1, bias_attr=False)

        def forward(self, x):
            first, rest = paddle.split(x, [self.partial_conv3.weight.shape[0], -1], 1)
            return paddle.concat([-self.partial_conv3(first), rest], 1)

    class Quiet(nn.ReLU):
        def forward(self, x):
            return 0.1 * super().forward(x)

    half = Half(embed_dim=8, depths=(1, 1), merge_sizes=(2,), feature_dim=16, num_classes=5)
    half.eval()
    for model in (half, small(mixer=PConv), small(act_layer=Quiet)):
        with pytest.raises(ValueError, match="cannot be written as ONNX"):
            to_onnx(model, (3, 16, 16))
        with pytest.raises(ValueError, match="the native engine runs FasterNet with the mixers pconv"):
            Predictor(model, "native", image_size=16)
        assert close(Predictor(model, "eager", image_size=16).logits(batch()), answer(model, batch()))


def test_layers_that_onnx_has_not_are_named():
    with pytest.raises(ValueError, match=r"mlp\.2 is a LogSigmoid, which cannot be written as ONNX"):
        to_onnx(small(act_layer=nn.LogSigmoid), (3, 16, 16))
    with pytest.raises(ValueError, match="tanh form of GELU"):
        to_onnx(small(act_layer=lambda: nn.GELU(approximate=True)), (3, 16, 16))
    with pytest.raises(ValueError, match="padding by numbers of zeros"):
        to_onnx(small(mixer=lambda dim: nn.Conv2D(dim, dim, 3, padding="SAME")), (3, 16, 16))
