"""Deletion and insertion curves."""
import numpy as np
import pytest

from paddle_fasternet import plots
from paddle_fasternet.explain import average, measure_faithfulness, random_faithfulness

QUARTERS = np.kron([[0, 1], [2, 3]], np.ones((8, 8), int))
WHITE = np.full((16, 16, 3), 255, np.uint8)
WEIGHTS = np.array([0.1, 0.4, 0.3, 0.2])


def of_quarters(images):
    shown = images[:, [0, 0, 15, 15], [0, 15, 0, 15], 0] / 255
    return np.stack([shown @ WEIGHTS, 1 - shown @ WEIGHTS], 1)


def test_curves_by_hand():
    curve = measure_faithfulness(of_quarters, WHITE, WEIGHTS, segments=QUARTERS, hide=0)
    np.testing.assert_allclose(curve.share, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.deletion, [1, 0.6, 0.3, 0.1, 0], atol=1e-12)
    np.testing.assert_allclose(curve.insertion, [0, 0.4, 0.7, 0.9, 1], atol=1e-12)
    assert curve.deletion_area == pytest.approx((0.8 + 0.45 + 0.2 + 0.05) / 4)
    assert curve.insertion_area == pytest.approx((0.2 + 0.55 + 0.8 + 0.95) / 4)
    worst = measure_faithfulness(of_quarters, WHITE, -WEIGHTS, segments=QUARTERS, hide=0)
    assert worst.deletion_area == pytest.approx(curve.insertion_area)
    other = measure_faithfulness(of_quarters, WHITE, WEIGHTS, label=1, segments=QUARTERS, hide=0)
    np.testing.assert_allclose(other.deletion, 1 - curve.deletion, atol=1e-12)


def test_maps_count_by_their_mean_in_each_segment():
    noise = np.random.default_rng(0).normal(scale=0.01, size=(16, 16))
    by_map = measure_faithfulness(of_quarters, WHITE, WEIGHTS[QUARTERS] + noise, segments=QUARTERS, hide=0)
    by_segment = measure_faithfulness(of_quarters, WHITE, WEIGHTS, segments=QUARTERS, hide=0)
    np.testing.assert_array_equal(by_map.deletion, by_segment.deletion)


def test_maps_by_pixels():
    curve = measure_faithfulness(of_quarters, WHITE, WEIGHTS[QUARTERS], steps=4, hide=0)
    np.testing.assert_allclose(curve.deletion, [1, 0.6, 0.3, 0.1, 0], atol=1e-12)
    uneven = measure_faithfulness(of_quarters, WHITE, WEIGHTS[QUARTERS], steps=10, hide=0)
    assert len(uneven.share) == 11 and uneven.share[-1] == 1
    np.testing.assert_allclose(np.diff(uneven.share), 0.1, atol=1 / 256)


def test_sizes_of_segments_are_the_horizontal_axis():
    halves = QUARTERS // 2
    rows = np.where(np.arange(16)[:, None] < 4, 0, 1 + halves)
    curve = measure_faithfulness(of_quarters, WHITE, [3, 2, 1], segments=rows, hide=0)
    np.testing.assert_allclose(curve.share, [0, 0.25, 0.5, 1])


def test_random_orders_lie_between():
    curves = random_faithfulness(of_quarters, WHITE, QUARTERS, repeats=30, seed=1, hide=0)
    assert len(curves) == 30
    # in the mean each step takes a quarter of the probability
    np.testing.assert_allclose(np.mean([curve.deletion for curve in curves], 0), [1, 0.75, 0.5, 0.25, 0], atol=0.08)
    mean = average(curves)
    assert len(mean.share) == 21
    assert mean.deletion_area == pytest.approx(np.mean([curve.deletion_area for curve in curves]), abs=1e-9)
    again = random_faithfulness(of_quarters, WHITE, QUARTERS, repeats=30, seed=1, hide=0)
    np.testing.assert_array_equal([curve.insertion for curve in again], [curve.insertion for curve in curves])


def test_hidden_parts_have_the_mean_colour_of_the_image():
    image = WHITE.copy()
    image[:8] = 55
    curve = measure_faithfulness(of_quarters, image, WEIGHTS, segments=QUARTERS)
    assert curve.insertion[0] == pytest.approx(155 / 255)


def test_figure(tmp_path):
    curves = {"LIME": measure_faithfulness(of_quarters, WHITE, WEIGHTS, segments=QUARTERS, hide=0),
              "random": average(random_faithfulness(of_quarters, WHITE, QUARTERS, hide=0))}
    from matplotlib.figure import Figure
    axes = plots.plot_faithfulness(curves, figure=Figure())
    texts = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert texts[0] == "LIME: 0.375" and texts[1].startswith("random: ")
    plots.save_figure(tmp_path / "curves.png", plots.plot_faithfulness, curves)
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"a map of shape \(8, 8\) does not fit the image \(16, 16\)"):
        plots.plot_heatmaps(WHITE, {"map": np.zeros((8, 8))})


@pytest.mark.parametrize(("options", "message"), [
    (dict(scores=np.ones((4, 4))), r"scores of shape \(4, 4\) must be a map \[16, 16\], or come with their segments"),
    (dict(scores=np.ones(3), segments=QUARTERS), r"scores of shape \(3,\) must be \[4\], one for each segment"),
    (dict(scores=[1, 2, 3, np.nan], segments=QUARTERS), "scores must be finite"),
    (dict(scores=WEIGHTS[QUARTERS], steps=1), "steps=1 must be"),
    (dict(scores=WEIGHTS, segments=QUARTERS, label=2), "label 2 is outside the 2 classes"),
    (dict(scores=WEIGHTS, segments=QUARTERS, hide="blur"), "hide='blur' is not known"),
])
def test_bad_requests(options, message):
    with pytest.raises(ValueError, match=message):
        measure_faithfulness(of_quarters, WHITE, **options)


def test_one_class_at_a_time():
    with pytest.raises(TypeError, match=r"label=\[0, 1\] must be the number of one class"):
        measure_faithfulness(of_quarters, WHITE, WEIGHTS, segments=QUARTERS, label=[0, 1])
