"""Grad-CAM, SmoothGrad, integrated gradients, and all of them beside an image."""
import numpy as np
import paddle
import pytest
from networks import telling_apart
from paddle import nn

from paddle_fasternet.explain import grad_cam, heatmaps, integrated_gradients, plot_explanations, smooth_grad, to_map


class Linear(nn.Layer):
    """Logits that are linear in the input, of known weights."""

    def __init__(self, weight):
        super().__init__()
        self.weight = paddle.to_tensor(weight)

    def forward(self, x):
        return x.flatten(1) @ self.weight


class Pooled(nn.Layer):
    """A 1 x 1 convolution, global pooling, and a linear head, as Grad-CAM's paper has them."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2D(3, 4, 1)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.pool(self.features(x)).flatten(1))


@pytest.fixture
def model():
    return telling_apart(num_classes=6, act_layer=nn.GELU)


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)


def test_grad_cam_by_hand(x):
    model = Pooled()
    maps = model.features(paddle.to_tensor(x)).numpy()
    # d logit / d map = head weight / (H W), the same at every place
    expected = np.einsum("c,nchw->nhw", model.head.weight.numpy()[:, 3] / 64**2, maps).clip(0)
    np.testing.assert_allclose(grad_cam(model, x, 3), expected, atol=1e-4 * expected.max())
    np.testing.assert_array_equal(grad_cam(model, x, 3, "features"), grad_cam(model, x, [3, 3], model.features))
    # probabilities: dp_3 = p_3 (e_3 - p) d logits
    p = nn.functional.softmax(model(paddle.to_tensor(x))).numpy()
    change = p[:, 3:4] * (np.eye(5)[3] - p)
    expected = np.einsum("nc,nchw->nhw", change @ model.head.weight.numpy().T / 64**2, maps).clip(0)
    np.testing.assert_allclose(grad_cam(model, x, 3, of="probability"), expected, atol=1e-4 * expected.max())


def test_grad_cam_takes_the_last_stage(model, x):
    cam = grad_cam(model, x)
    assert cam.shape == (2, 64, 64) and cam.min() >= 0 and cam.max() > 0
    np.testing.assert_array_equal(cam, grad_cam(model, x, layer="stages.6"))
    assert np.abs(cam - grad_cam(model, x, layer="stages.4")).max() > 0
    likeliest = model(paddle.to_tensor(x)).argmax(1).numpy()
    np.testing.assert_array_equal(cam, grad_cam(model, x, likeliest))


def test_gradients_of_a_linear_network(x):
    small = x[:, :, :4, :4]
    weight = np.random.default_rng(1).standard_normal((48, 5)).astype(np.float32)
    expected = weight[:, 2].reshape(1, 3, 4, 4)
    gradient = smooth_grad(Linear(weight), small, 2, samples=3)
    np.testing.assert_allclose(gradient, expected.repeat(2, 0), rtol=1e-5)
    np.testing.assert_allclose(to_map(gradient)[0], np.abs(expected[0]).sum(0), rtol=1e-5)
    baseline = np.full((3, 1, 1), 0.5, np.float32)
    found = integrated_gradients(Linear(weight), small, 2, baseline=baseline, steps=2)
    np.testing.assert_allclose(found, expected * (small - 0.5), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("of", ["logit", "probability"])
def test_integrated_gradients_sum_up(model, x, of):
    """Their sum is what the output gains from the baseline to the input."""
    found = integrated_gradients(model, x, [1, 4], steps=100, of=of)
    ends = [model(paddle.to_tensor(value)) for value in (x, np.zeros_like(x))]
    if of == "probability":
        ends = [nn.functional.softmax(end) for end in ends]
    gain = (ends[0] - ends[1]).numpy()[[0, 1], [1, 4]]
    np.testing.assert_allclose(found.sum((1, 2, 3)), gain, rtol=0.02, atol=1e-3)


def test_smooth_grad_repeats_itself(model, x):
    one, same, other = (smooth_grad(model, x, samples=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0
    without = smooth_grad(model, x, samples=1, noise=0)
    np.testing.assert_allclose(without, smooth_grad(model, x, samples=2, noise=0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("function", [grad_cam, lambda model, x: smooth_grad(model, x, samples=1),
                                      lambda model, x: integrated_gradients(model, x, steps=1)])
def test_nothing_is_left_behind(model, x, function):
    model.train()
    before, means = x.copy(), model.patch_embed.norm._mean.numpy().copy()
    tensor = paddle.to_tensor(x)
    with paddle.no_grad():
        from_tensor = function(model, tensor)
    np.testing.assert_array_equal(from_tensor, function(model, x))
    np.testing.assert_array_equal(x, before)
    assert model.training and model.stages.training and tensor.stop_gradient
    np.testing.assert_array_equal(model.patch_embed.norm._mean.numpy(), means)
    for name, parameter in model.named_parameters():
        assert parameter.grad is None, name
    assert not any(layer._forward_post_hooks for layer in model.sublayers())


def test_all_beside_the_image(model):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    import matplotlib.pyplot as plt
    options = dict(num_samples=450, engine="eager", progress=False)
    axes = plot_explanations(model, image, 120, 60, label=1, class_names=list("abcdef"), **options)
    assert [ax.get_title() for ax in axes[1:]] == ["LIME", "Grad-CAM", "SmoothGrad", "integrated gradients"]
    assert axes[0].get_title().startswith("b, ")
    plt.close("all")
    maps = heatmaps(model, image, 120, 60, 1, methods=["gradcam", "lime"], **options)
    assert list(maps) == ["gradcam", "lime"] and all(heat.shape == (64, 64) for heat in maps.values())
    x = (image.transpose(2, 0, 1)[None].astype(np.float32) - 120) / 60
    np.testing.assert_allclose(maps["gradcam"], grad_cam(model, x, 1)[0], rtol=1e-4, atol=1e-8)
    with pytest.raises(ValueError, match="method='gradcan' is not known; did you mean 'gradcam'"):
        heatmaps(model, image, 120, 60, methods="gradcan")


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda model, x: grad_cam(model, x[0]), ValueError, r"x of shape \[3, 64, 64\]"),
    (lambda model, x: grad_cam(model, x.astype(np.uint8)), ValueError, "uint8 must be the network's input"),
    (lambda model, x: grad_cam("model", x), TypeError, "model must be a Layer, not str"),
    (lambda model, x: grad_cam(model, x, layer="stages.9"), ValueError, "layer='stages.9' is not known; did you mean"),
    (lambda model, x: grad_cam(model, x, layer=nn.ReLU()), ValueError, "layer, a ReLU, is not a layer of model"),
    (lambda model, x: grad_cam(model, x, layer="head"), ValueError, "layer returned no feature map"),
    (lambda model, x: grad_cam(Linear(np.ones((12288, 2), np.float32)), x), ValueError, "model has no layer that"),
    (lambda model, x: grad_cam(model.stages, x), ValueError, "expects|must|channel"),
    (lambda model, x: smooth_grad(model, x, 6), ValueError, r"label 6 is outside the 6 classes 0..5"),
    (lambda model, x: smooth_grad(model, x, [1, 2, 3]), TypeError, r"labels=\[1, 2, 3\] must be .* one for each of 2"),
    (lambda model, x: smooth_grad(model, x, samples=0), ValueError, "samples=0"),
    (lambda model, x: smooth_grad(model, x, noise=-1), ValueError, "noise=-1"),
    (lambda model, x: smooth_grad(model.patch_embed, x), ValueError, "must be logits"),
    (lambda model, x: integrated_gradients(model, x, steps=0), ValueError, "steps=0"),
    (lambda model, x: integrated_gradients(model, x, of="logits"), ValueError, "of='logits' is not known; did"),
    (lambda model, x: integrated_gradients(model, x, baseline=np.zeros(7)), ValueError, r"baseline of shape \(7,\)"),
])
def test_bad_requests(model, x, call, error, message):
    with pytest.raises(error, match=message):
        call(model, x)
