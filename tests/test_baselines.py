import numpy as np
import paddle
import pytest

from paddle_fasternet.baselines import (
    Attention,
    ConvNeXtB,
    SwinB,
    SwinBlock,
    create_baseline,
    list_baselines,
)
from paddle_fasternet.benchmark import count_macs, count_parameters


@pytest.mark.parametrize(("name", "image_size", "parameters", "published_macs"), [
    # parameters: torchvision's and timm's counts of these networks; G multiply-adds: timm's model cards
    ("mobilenet_v2", 224, 3_504_872, 0.30), ("shufflenet_v2", 224, 2_278_604, 0.146),
    ("mobilevit_xxs", 256, 1_272_024, 0.42), ("resnet50", 224, 25_557_032, 4.09), ("swin_b", 224, 87_768_224, 15.43),
    ("convnext_b", 224, 88_591_464, 15.36)])
def test_published_counts(name, image_size, parameters, published_macs):
    model, size = create_baseline(name)
    assert size == image_size and count_parameters(model) == parameters
    assert count_macs(model, size) / 1e9 == pytest.approx(published_macs, rel=0.035)


def test_all_are_listed_and_take_other_heads():
    assert list_baselines() == ["mobilenet_v2", "shufflenet_v2", "mobilevit_xxs", "resnet50", "swin_b", "convnext_b"]
    model, _ = create_baseline("mobilevit_xxs", num_classes=7)
    assert model(paddle.zeros([2, 3, 64, 128])).shape == [2, 7]


def test_attention_by_hand():
    paddle.seed(0)
    layer, x = Attention(8, 2), paddle.randn([3, 5, 8])
    q, k, v = np.split((x @ layer.qkv.weight + layer.qkv.bias).numpy(), 3, axis=2)
    bias = np.random.default_rng(0).standard_normal((2, 5, 5)).astype(np.float32)
    heads = []
    for head, part in enumerate((slice(0, 4), slice(4, 8))):
        scores = q[..., part] @ k[..., part].transpose(0, 2, 1) / 2 + bias[head]
        weights = np.exp(scores) / np.exp(scores).sum(2, keepdims=True)
        heads.append(weights @ v[..., part])
    expected = paddle.to_tensor(np.concatenate(heads, 2)) @ layer.proj.weight + layer.proj.bias
    np.testing.assert_allclose(layer(x, paddle.to_tensor(bias)).numpy(), expected.numpy(), atol=1e-5)


@paddle.no_grad()
def test_swin_windows_see_themselves_alone():
    """A changed pixel changes its window alone, and not what the cyclic shift put beside it."""
    paddle.seed(0)
    x = paddle.randn([1, 14, 14, 8])
    changed = x.clone()
    changed[0, 0, 0, 0] += 3.0
    for shifted, edge in ((False, 7), (True, 3)):  # shifted by 3, the first whole window begins there
        block = SwinBlock(8, 2, 14, shifted)
        assert block(x).shape == x.shape
        rows, columns = np.nonzero(np.abs((block(changed) - block(x)).numpy())[0].max(2) > 1e-6)
        assert rows.max() == columns.max() == edge - 1 and len(rows) == edge**2


def test_images_do_not_see_each_other():
    paddle.seed(0)
    for model, size in ((SwinB(5, 8, (2, 2), (2, 2), 56), 56), (ConvNeXtB(5, (8, 16), (1, 1)), 32),
                        (create_baseline("mobilevit_xxs", 5)[0], 64)):
        model.eval()
        x = paddle.randn([3, 3, size, size])
        with paddle.no_grad():
            np.testing.assert_allclose(model(x)[1:2].numpy(), model(x[1:2]).numpy(), atol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="name='swin' is not known; did you mean 'swin_b'"):
        create_baseline("swin")
    with pytest.raises(ValueError, match="num_classes=0"):
        create_baseline("resnet50", 0)
    with pytest.raises(ValueError, match="input of 64 x 60 pixels: MobileViT-XXS takes multiples of 64"):
        create_baseline("mobilevit_xxs")[0](paddle.zeros([1, 3, 64, 60]))
    with pytest.raises(ValueError, match="this Swin-B takes 56 x 56"):
        SwinB(5, 8, (1,), (2,), 56)(paddle.zeros([1, 3, 64, 64]))
