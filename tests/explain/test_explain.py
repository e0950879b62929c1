"""LIME: superpixels, samples, regression, stability, bad input."""
import tracemalloc

import numpy as np
import paddle
import pytest
from networks import RECORDED, telling_apart
from paddle import nn
from PIL import Image

from paddle_fasternet import FasterNet, LimeExplainer, load_weights
from paddle_fasternet.explain import Explanation, segment
from paddle_fasternet.explain.lime import _KEPT_BYTES
from paddle_fasternet.explain.predict import LayerPredictor
from paddle_fasternet.explain.quickshift import quickshift
from paddle_fasternet.explain.regression import Moments, kernel_weights
from paddle_fasternet.explain.segments import Hider, check_image, hidden_image

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
QUARTERS = np.kron([[0, 1], [2, 3]], np.ones((8, 8), int))
WHITE = np.full((16, 16, 3), 255, np.uint8)
WEIGHTS = np.array([0.4, -0.1, 0.2, 0.05])


def of_quarters(images):
    """Probabilities that are linear in which quarters of the white image are shown (hidden ones are black)."""
    shown = images[:, [0, 0, 15, 15], [0, 15, 0, 15], 0] / 255
    p = 0.3 + shown @ WEIGHTS
    return np.stack([p, 1 - p], 1)


def picture(seed=0, height=40, width=50):
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((width, height), Image.BICUBIC)
    return (np.asarray(rough) + rng.integers(-8, 9, (height, width, 3))).clip(0, 255).astype(np.uint8)


class Divided(nn.Layer):
    """The network of the record, whose logits were divided by 40."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x) / 40


@pytest.fixture(scope="module")
def tiny():
    return telling_apart(**RECORDED)


# superpixels


@pytest.mark.parametrize("sigma", [0, 1])
@pytest.mark.parametrize("image", [
    picture(0), picture(1, 64, 33), np.full((30, 40, 3), 90, np.uint8),
    np.random.default_rng(0).integers(0, 256, (31, 47, 3), np.uint8),
    np.random.default_rng(1).integers(0, 256, (2, 3, 3), np.uint8),
    np.kron(np.eye(5), np.ones((9, 9)))[..., None].repeat(3, 2).astype(np.uint8) * 200,
    np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8)[:, None, None], (60, 20, 3)).copy(),
], ids=["picture", "tall", "flat", "noise", "six pixels", "blocks", "slope"])
def test_quickshift_is_that_of_skimage(image, sigma):
    from skimage.segmentation import quickshift as theirs
    np.testing.assert_array_equal(quickshift(image, sigma), theirs(image, sigma=sigma))


def test_quickshift_on_blocks_of_memory(monkeypatch):
    monkeypatch.setattr("paddle_fasternet.explain.quickshift._BLOCK", 700)
    monkeypatch.setattr("paddle_fasternet.explain.quickshift.cores", lambda: 3)
    from skimage.segmentation import quickshift as theirs
    np.testing.assert_array_equal(quickshift(picture()), theirs(picture(), sigma=1))


def test_small_images_are_cut_enlarged():
    small = picture(3, 32, 32) // 6 + 100
    assert quickshift(small).max() + 1 < 10 < 25 < segment(small).max() + 1
    stripes = np.zeros((3, 4), int)
    stripes[1:] = 5
    # a pixel belongs to what most of its square belongs to; numbers are made anew
    np.testing.assert_array_equal(segment(picture(0, 3, 4), lambda image: stripes), stripes // 5)
    assert segment(picture(0, 20, 90)).shape == (20, 90)


def test_majority():
    from paddle_fasternet.explain.segments import _most_frequent
    rows = np.array([[3, 1, 1, 2], [7, 7, 7, 7], [5, 4, 5, 4], [9, 2, 9, 9]])
    np.testing.assert_array_equal(_most_frequent(rows), [1, 7, 4, 9])


def test_slic_and_a_function_of_ones_own():
    assert 20 < segment(picture(0, 120, 120), "slic").max() + 1 < 100
    with pytest.raises(ValueError, match=r"segmentation\(image\) of shape \(3,\)"):
        segment(WHITE, lambda image: np.arange(3))


# samples


def test_hidden_segments():
    image = picture(0, 16, 16)
    hidden = hidden_image(image, QUARTERS)
    np.testing.assert_array_equal(hidden[0, 0], image[:8, :8].reshape(-1, 3).mean(0).astype(int))
    np.testing.assert_array_equal(hidden_image(image, QUARTERS, (1, 2, 3))[5, 5], [1, 2, 3])
    masks = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    made = Hider(image, QUARTERS, hidden)(masks)
    assert made.dtype == np.uint8 and made.shape == (3, 16, 16, 3)
    np.testing.assert_array_equal(made[0], image)
    np.testing.assert_array_equal(made[1], np.where(np.isin(QUARTERS, [1, 2])[..., None], image, hidden))
    np.testing.assert_array_equal(made[2], hidden)


def test_images_of_every_kind():
    image = picture(0, 10, 12)
    for same in (image.transpose(2, 0, 1), image.astype(np.int64), image / 255, paddle.to_tensor(image),
                 Image.fromarray(image), (image / 255).astype(np.float32)):
        np.testing.assert_array_equal(check_image(same), image)


def test_weights():
    masks = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    # cosine distances to the full mask: 0, 1 - 1/2, 1
    np.testing.assert_allclose(kernel_weights(masks, 0.5), [1, np.exp(-0.5), np.exp(-2)])


# regression


def test_linear_models_are_found_exactly():
    found = LimeExplainer(of_quarters, hide=0).explain(WHITE, [0, 1], num_samples=60, segments=QUARTERS, progress=False)
    np.testing.assert_allclose(found.coefficients, [WEIGHTS, -WEIGHTS], atol=1e-12)
    np.testing.assert_allclose(found.intercepts, [0.3, 0.7], atol=1e-12)
    np.testing.assert_allclose(found.r2, 1)
    assert found.labels == (0, 1) and found.num_samples == 60 and found.spread is None and found.stable is None
    np.testing.assert_allclose(found.prediction, [0.85, 0.15], rtol=1e-6)


def test_regression_by_hand():
    # weights 3 and 1 on value 1 and 0 with the segment, 2 and 2 on 0.5 and 0.25 without: means 0.75 and 0.375
    moments = Moments([0.0])
    moments.add(np.array([[1, 0], [1, 1]]), np.array([[1.0], [0.0]]), np.array([3.0, 1.0]))
    moments.add(np.array([[0, 0], [0, 1]]), np.array([[0.5], [0.25]]), np.array([2.0, 2.0]))
    coefficients, intercepts, r2 = moments.solve("forward", num_features=1)
    # the second segment: (0 + 0.5) / 3 with it, (3 + 1) / 5 without
    np.testing.assert_allclose(coefficients, [[0, 0.5 / 3 - 0.8]])
    np.testing.assert_allclose(intercepts, [0.8])
    assert 0 < r2[0] < 1
    ridge = moments.solve("ridge", alpha=1e6)[0]
    assert np.abs(ridge).max() < 1e-5


def test_a_constant_answer_has_no_coefficients():
    found = LimeExplainer(lambda images: np.full((len(images), 3), 1 / 3)).explain(
        WHITE, segments=QUARTERS, num_samples=30, progress=False)
    np.testing.assert_array_equal(found.coefficients, 0)
    assert found.r2[0] == 1 and found.intercepts[0] == pytest.approx(1 / 3)


def test_differences_of_tiny_probabilities_keep_their_digits():
    def nearly_certain(images):
        p = 1 - 1e-9 * (1 - of_quarters(images))
        return p.astype(np.float64)
    found = LimeExplainer(nearly_certain, hide=0).explain(WHITE, 0, num_samples=60, segments=QUARTERS, progress=False)
    np.testing.assert_allclose(found.coefficients[0], 1e-9 * WEIGHTS, rtol=1e-5)
    assert found.r2[0] == pytest.approx(1, abs=1e-9)


def test_the_record_of_interpretdl(reference):
    record = np.load(reference("lime_interpretdl.npz"))
    model = FasterNet(**RECORDED)
    load_weights(model, reference("paddleclas_tiny.pdparams"))
    explainer = LimeExplainer(Divided(model), MEAN, STD, seed=int(record["seed"]), engine="eager")
    found = explainer.explain(record["image"], range(10), num_samples=400, progress=False)
    np.testing.assert_array_equal(found.segments, record["segments"])
    np.testing.assert_array_equal(found.masks, record["masks"])
    np.testing.assert_allclose(found.probabilities, record["probabilities"], atol=1e-5)
    largest = np.abs(record["coefficients"]).max()
    np.testing.assert_allclose(found.coefficients, record["coefficients"], atol=1e-4 * largest)
    np.testing.assert_allclose(found.r2, record["r2"], atol=1e-4)


@pytest.mark.parametrize("regressor", ["least_squares", "ridge", "forward"])
def test_the_lime_package_agrees(regressor):
    from lime.lime_base import LimeBase
    from sklearn.linear_model import LinearRegression, Ridge
    rng = np.random.default_rng(2)
    segments = np.kron(np.arange(12).reshape(3, 4), np.ones((4, 4), int))
    effects = rng.normal(size=12)

    def predict_fn(images):
        shown = images[:, 1::4, 1::4, 0].reshape(len(images), 12) / 255
        p = 1 / (1 + np.exp(-shown @ effects - shown[:, 0] * shown[:, 5] * 2))
        return np.stack([p, 1 - p], 1)

    image = np.full((12, 16, 3), 255, np.uint8)
    found = LimeExplainer(predict_fn, hide=0, seed=7, regressor=regressor, alpha=2.0, num_features=4).explain(
        image, 0, num_samples=200, segments=segments, progress=False)
    distances = 1 - np.sqrt(found.masks.mean(1))
    base = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)))
    intercept, pairs, r2, _ = base.explain_instance_with_data(
        found.masks.astype(float), predict_fn(Hider(image, segments, np.zeros_like(image))(found.masks)), distances, 0,
        4 if regressor == "forward" else 12, "forward_selection" if regressor == "forward" else "none",
        Ridge(alpha=2.0) if regressor == "ridge" else LinearRegression())
    theirs = np.zeros(12)
    theirs[[i for i, _ in pairs]] = [value for _, value in pairs]
    np.testing.assert_allclose(found.coefficients[0], theirs, atol=1e-6)
    assert (found.coefficients[0] != 0).sum() == len(pairs)
    assert found.intercepts[0] == pytest.approx(intercept, abs=1e-6) and found.r2[0] == pytest.approx(r2, abs=1e-6)


# seeds, rounds, memory


def test_seeds_and_batches():
    explain = dict(image=picture(0, 16, 16), labels=0, num_samples=50, segments=QUARTERS, progress=False)

    def predict_fn(images):
        p = images.astype(float).mean((1, 2, 3)) ** 2 / 255**2
        return np.stack([p, 1 - p], 1)

    one = LimeExplainer(predict_fn, seed=3).explain(**explain)
    other = LimeExplainer(predict_fn, seed=3, batch_size=7).explain(**explain)
    np.testing.assert_array_equal(one.masks, np.concatenate([
        np.ones((1, 4), bool), np.random.RandomState(3).randint(0, 2, 200).reshape(50, 4)[1:].astype(bool)]))
    np.testing.assert_array_equal(one.masks, other.masks)
    np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=1e-9)
    np.testing.assert_array_equal(one.coefficients, LimeExplainer(predict_fn, seed=3).explain(**explain).coefficients)
    assert np.abs(one.coefficients - LimeExplainer(predict_fn, seed=4).explain(**explain).coefficients).max() > 0
    given = LimeExplainer(predict_fn).explain(**explain, masks=one.masks.astype(int).tolist())
    np.testing.assert_allclose(given.coefficients, one.coefficients, rtol=1e-9)


def test_repeats_are_rounds_with_seeds_of_their_own():
    explainer, image = LimeExplainer(of_noise, hide=0, seed=5), picture(0, 16, 16)
    options = dict(labels=0, num_samples=40, segments=QUARTERS, progress=False)
    both = explainer.explain(image, repeats=2, **options)
    alone = [LimeExplainer(of_noise, hide=0, seed=seed).explain(image, **options) for seed in (5, 6)]
    np.testing.assert_array_equal(both.masks, np.concatenate([one.masks for one in alone]))
    first, second = (one.coefficients for one in alone)
    np.testing.assert_allclose(both.spread, np.abs(first - second) / np.sqrt(2))
    assert both.num_samples == 80 and (both.spread > 0).all()
    together = explainer.explain(image, masks=both.masks, **{**options, "num_samples": 1})
    np.testing.assert_allclose(both.coefficients, together.coefficients)


def of_noise(images):
    """Far from linear: what is shown decides in a way that looks random."""
    code = (images[:, [0, 0, 15, 15], [0, 15, 0, 15], 0].astype(int) * [1, 3, 7, 11]).sum(1)
    p = (np.sin(code) + 1) / 2
    return np.stack([p, 1 - p], 1)


def test_sampling_goes_on_until_the_top_is_stable(monkeypatch):
    found = LimeExplainer(of_quarters, hide=0).explain(WHITE, 0, num_samples=30, segments=QUARTERS, until_stable=2,
                                                       progress=False)
    assert found.stable is True and found.num_samples == 90  # three rounds that agree are the least
    monkeypatch.setattr("paddle_fasternet.explain.lime._MOST_ROUNDS", 2)
    found = LimeExplainer(of_quarters, hide=0).explain(WHITE, 0, num_samples=30, segments=QUARTERS, until_stable=2,
                                                       progress=False)
    assert found.stable is False and found.num_samples == 60


def test_memory_does_not_grow_with_the_samples(monkeypatch):
    monkeypatch.setattr("paddle_fasternet.explain.lime._KEPT_BYTES", 100_000)
    explainer = LimeExplainer(of_quarters, hide=0)
    tracemalloc.start()
    try:
        found = explainer.explain(WHITE, 0, num_samples=40_000, segments=QUARTERS, progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 40,000 samples have 31 MB of images; those kept are 100 kB of masks (4 bytes) and probabilities (2 floats)
    assert peak < 4e6 and len(found.masks) == len(found.probabilities) == 100_000 // 12
    assert found.num_samples == 40_000 and _KEPT_BYTES < 2**29
    np.testing.assert_allclose(found.coefficients[0], WEIGHTS, atol=1e-9)


# the result


def test_what_an_explanation_tells(tmp_path):
    found = LimeExplainer(of_quarters, hide=0).explain(WHITE, top_k=2, num_samples=40, segments=QUARTERS,
                                                       progress=False)
    assert found.labels == (0, 1)
    assert [i for i, _ in found.top(k=3)] == [0, 2, 1] and found.top(1, 1)[0][1] == pytest.approx(-0.4)
    assert [i for i, _ in found.top(0, 4, positive_only=True)] == [0, 2, 3]
    np.testing.assert_array_equal(found.mask(0, 2), np.isin(QUARTERS, [0, 2]))
    np.testing.assert_array_equal(found.mask(1, 4), QUARTERS == 1)
    np.testing.assert_allclose(found.heatmap(0), WEIGHTS[QUARTERS])
    with pytest.raises(ValueError, match="label=2 was not explained; explained are: 0, 1"):
        found.top(2)
    with pytest.raises(ValueError, match="k=0 must be"):
        found.mask(k=0)
    found.save(tmp_path / "found.png", label=1)
    with Image.open(tmp_path / "found.png") as drawn:
        assert drawn.width > 1000 and len(np.unique(np.asarray(drawn))) > 20
    found.save(tmp_path / "found.npz")
    again = Explanation.load(tmp_path / "found.npz")
    assert (again.labels, again.num_samples, again.stable, again.class_names) == ((0, 1), 40, None, None)
    for name in ("coefficients", "masks", "segments", "probabilities", "prediction", "image"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    with pytest.raises(ValueError, match="'.gif' is not known; .*png"):
        found.save(tmp_path / "found.gif")
    (tmp_path / "other.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="is not an explanation"):
        Explanation.load(tmp_path / "other.npz")


def test_plot_on_pyplot():
    import matplotlib.pyplot as plt
    found = LimeExplainer(of_quarters, hide=0).explain(WHITE, num_samples=40, segments=QUARTERS, progress=False)
    axes = found.plot(k=2)
    assert [ax.get_title() for ax in axes] == ["class 0, 85.0%", "top 2 of 4 segments", "coefficients, R² 1.00"]
    plt.close("all")


def test_progress_goes_to_stderr(capsys):
    LimeExplainer(of_quarters, hide=0).explain(WHITE, num_samples=40, segments=QUARTERS)
    captured = capsys.readouterr()
    assert not captured.out and "40/40" in captured.err


# networks


def test_a_network_eager_and_through_a_predictor(tiny):
    image = picture(0, 64, 64)
    tiny.train()
    try:
        eager, fast = (LimeExplainer(tiny, MEAN, STD, engine=engine).explain(image, num_samples=150, progress=False)
                       for engine in ("eager", "paddle"))
        assert tiny.training and tiny.stages.training
    finally:
        tiny.eval()
    assert eager.labels == fast.labels
    largest = np.abs(eager.coefficients).max()
    assert largest > 1e-3
    np.testing.assert_allclose(eager.coefficients, fast.coefficients, atol=1e-3 * largest)


def test_images_that_are_not_square(tiny):
    images = np.stack([picture(0, 32, 48)] * 3)
    x = (images.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    with paddle.no_grad():
        expected = nn.functional.softmax(tiny(paddle.to_tensor(x.transpose(0, 3, 1, 2).copy()))).numpy()
    np.testing.assert_allclose(LayerPredictor(tiny, MEAN, STD)(images), expected, atol=1e-5)
    with pytest.raises(ValueError, match="engine='paddle' takes square images, not 32 x 48"):
        LayerPredictor(tiny, MEAN, STD, "paddle")(images)


# bad input


def answer(shape=None, value=None):
    def predict_fn(images):
        return np.full([len(images), 4] if shape is None else shape, 0.25 if value is None else value)
    return predict_fn


@pytest.mark.parametrize(("image", "message"), [
    (np.ones((16, 16, 2), np.uint8), r"\(16, 16, 2\) must be one image \[H, W\], \[H, W, C\] or \[C, H, W\]"),
    (WHITE[None], r"image of shape \(1, 16, 16, 3\) must be one image"),
    (WHITE * 1.0, "image has values from 255 to 255; they must be integers 0..255 or floats 0..1"),
    (WHITE / 255 - 1.5, "values from -0.5 to -0.5; .* before any normalisation"),
    (WHITE * np.nan, "values from nan"),
    (np.full((16, 16, 3), 256), "values from 256 to 256"),
    (np.zeros((0, 16, 3), np.uint8), "no pixels"),
])
def test_bad_images(image, message):
    with pytest.raises(ValueError, match=message):
        LimeExplainer(answer()).explain(image, progress=False)


@pytest.mark.parametrize(("options", "error", "message"), [
    (dict(labels=4), ValueError, r"label 4 is outside the 4 classes 0..3"),
    (dict(labels=[0, -1]), ValueError, "label -1 is outside the 4 classes"),
    (dict(labels="cat"), TypeError, "labels='cat' must be the number of a class"),
    (dict(labels=[]), TypeError, "labels="),
    (dict(top_k=5), ValueError, "top_k=5 must be an integer >= 1 and <= 4"),
    (dict(num_samples=0), ValueError, "num_samples=0 must be an integer >= 1"),
    (dict(num_samples=2.5), TypeError, "num_samples=2.5"),
    (dict(num_samples=4), ValueError, "num_samples=4 is too few for the 4 segments of this image; take more, or reg"),
    (dict(repeats=0), ValueError, "repeats=0"),
    (dict(until_stable=-1), ValueError, "until_stable=-1"),
    (dict(segments=np.zeros((16, 16), int)), ValueError, "segments has one segment only"),
    (dict(segments=QUARTERS[:8]), ValueError, r"segments of shape \(8, 16\) and type int64 must be integers"),
    (dict(segments=QUARTERS * 1.0), ValueError, "type float64"),
    (dict(masks=np.ones((9, 3))), ValueError, r"masks of shape \(9, 3\) must be \[num_samples, 4\]"),
    (dict(masks=np.full((9, 4), 2)), ValueError, r"masks must hold 0 \(hidden\) and 1"),
    (dict(masks=np.ones((9, 4))), ValueError, "kernel_width is so small|segments 0, 1, 2, 3 are shown in all"),
    (dict(masks=np.tile([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1]], (5, 1))), ValueError,
     "15 masks do not determine 4 coefficients: segments 0 are shown in all or in none"),
    (dict(masks=np.tile([[1, 1, 1, 0], [0, 0, 1, 0], [1, 1, 0, 1], [0, 0, 0, 1]], (5, 1))), ValueError,
     "some segments are always hidden together"),
    (dict(masks=np.ones((9, 4)), repeats=2), ValueError, "masks are one round"),
])
def test_bad_requests(options, error, message):
    with pytest.raises(error, match=message):
        LimeExplainer(answer()).explain(WHITE, progress=False, **{"segments": QUARTERS, "num_samples": 30, **options})


@pytest.mark.parametrize(("predict_fn", "message"), [
    (answer(shape=[4]), r"predict_fn returned shape \[4\] for 1 images; it must be \[1, K\]"),
    (answer(shape=[1, 4]), r"predict_fn returned shape \[1, 4\] for 30 images; it must be \[30, 4\]"),
    (lambda images: np.zeros((len(images), 3 + (len(images) > 1))), r"\[30, 4\] for 30 images; it must be \[30, 3\]"),
    (answer(value=np.nan), "predict_fn returned nan; probabilities must be finite"),
    (lambda images: None, r"must return probabilities \[N, K\], not NoneType|returned shape \[\]"),
    (lambda images: [[1], [1, 2]], r"must return probabilities \[N, K\], not list"),
])
def test_bad_predict_functions(predict_fn, message):
    with pytest.raises(ValueError, match=message):
        LimeExplainer(predict_fn).explain(WHITE, segments=QUARTERS, num_samples=30, progress=False)


@pytest.mark.parametrize(("options", "error", "message"), [
    (dict(model_or_predict_fn="model"), TypeError, "must be a network, a Predictor, or a function .* not str"),
    (dict(mean=[1]), ValueError, "mean and std go with a network"),
    (dict(segmentation="quikshift"), ValueError, "segmentation='quikshift' is not known; did you mean 'quickshift'"),
    (dict(kernel_width=0), ValueError, "kernel_width=0"),
    (dict(hide="maen"), ValueError, "hide='maen' is not known; did you mean 'mean'"),
    (dict(hide=(1, 2)), ValueError, r"hide=\(1, 2\) must be 'mean' or a colour"),
    (dict(hide=300), ValueError, "hide=300"),
    (dict(batch_size=0), ValueError, "batch_size=0"),
    (dict(seed=-1), ValueError, "seed=-1"),
    (dict(regressor="lasso"), ValueError, "regressor='lasso' is not known"),
    (dict(alpha=-1), ValueError, "alpha=-1"),
    (dict(num_features=0), ValueError, "num_features=0"),
    (dict(model_or_predict_fn=nn.Identity()), ValueError, "a network needs the mean and std"),
    (dict(model_or_predict_fn=nn.Identity(), mean=[1, 2], std=9), ValueError, r"mean=\[1.0, 2.0\] must be one"),
    (dict(model_or_predict_fn=nn.Identity(), mean=0.4, std=0.2), ValueError, "those of images 0..1; multiply both by"),
    (dict(model_or_predict_fn=nn.Identity(), mean=0, std=0), ValueError, "std=0 must be above 0"),
    (dict(model_or_predict_fn=nn.Identity(), mean=0, std=1, engine="openvin"), ValueError, "did you mean 'openvino'"),
    (dict(model_or_predict_fn=nn.Identity(), mean=0, std=1, precision="half"), ValueError, "precision='half'"),
    (dict(model_or_predict_fn=nn.Identity(), mean=0, std=1, engine="eager", precision="int8"), ValueError,
     "precision='int8' is not offered by engine='eager'"),
])
def test_bad_explainers(options, error, message):
    with pytest.raises(error, match=message):
        LimeExplainer(**{"model_or_predict_fn": answer(), **options})


def test_too_large_an_image():
    with pytest.raises(ValueError, match="image of 1100 x 1000 pixels is too large to be cut"):
        LimeExplainer(answer()).explain(np.zeros((1100, 1000, 3), np.uint8))


def test_more_segments_than_samples_with_ridge_and_forward():
    for regressor in ("ridge", "forward"):
        found = LimeExplainer(of_quarters, hide=0, regressor=regressor, num_features=2).explain(
            WHITE, segments=QUARTERS, num_samples=3, progress=False)
        assert np.isfinite(found.coefficients).all()
