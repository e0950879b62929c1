import matplotlib
import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

from paddle_fasternet import History, plot_learning_curve, plots, show_images  # noqa: E402


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.lines if not line.get_label().startswith("_")}


def test_learning_curve_draws_the_notebooks_record():
    record = {"train": {"loss": [2.0, 1.0, 0.5], "iter": [1, 2, 3]}, "val": {"loss": [1.5, 1.2], "iter": [2, 3]}}
    ax = plot_learning_curve(record, title="loss", ylabel="CE Loss")
    drawn = lines(ax)
    np.testing.assert_array_equal(drawn["train"], [[1, 2], [2, 1], [3, 0.5]])
    np.testing.assert_array_equal(drawn["val"], [[2, 1.5], [3, 1.2]])
    assert ax.get_ylabel() == "CE Loss" and ax.get_title() == "Learning curve of loss"


def test_many_steps_are_smoothed_by_their_running_mean():
    values = np.random.default_rng(0).random(600)
    record = {"train": {"acc": list(values), "iter": range(600)}, "val": {"acc": [], "iter": []}}
    drawn = lines(plot_learning_curve(record, "acc", "Accuracy"))
    assert set(drawn) == {"train"} and drawn["train"][0] == pytest.approx([9, values[:10].mean()])


def test_history_is_drawn_and_saved(tmp_path):
    history = History()
    history.add_steps(1, [2.0, 1.0], [0.1, 0.4])
    history.add_epoch({"epoch": 1, "step": 2, "val_loss": 1.0, "val_acc": 0.5})
    before = plt.get_fignums()
    plots.save_figure(tmp_path / "a.png", plots.plot_history, history)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG" and plt.get_fignums() == before
    assert "50.00%" in plots.plot_history(history)[1].get_title()
    assert plots.plot_history(History()).shape == (2,)


@pytest.mark.parametrize(("record", "message"), [
    ({}, "record has no record.'train'"), (3, "record has no"),
    ({"train": {"loss": [1.0]}, "val": {}}, "with its 'iter'"),
    ({"train": {"loss": [1.0], "iter": [1, 2]}, "val": {"loss": [], "iter": []}}, "1 values of 'loss' for 2 steps")])
def test_records_that_are_none(record, message):
    with pytest.raises(ValueError, match=message):
        plot_learning_curve(record)
    assert not plt.get_fignums()


@settings(deadline=None, max_examples=25)
@given(kind=st.sampled_from(["uint8", "unit", "normalised", "tensor", "grey"]), rows=st.integers(1, 3),
       columns=st.integers(1, 4), n=st.integers(0, 14), first=st.booleans())
def test_show_images_takes_any_form(kind, rows, columns, n, first):
    images = np.random.default_rng(n).random((n, 8, 8, 1 if kind == "grey" else 3))
    if first:
        images = images.transpose(0, 3, 1, 2)
    if kind == "uint8":
        images = (images * 255).astype(np.uint8)
    if kind in ("normalised", "tensor"):
        images = images * 5 - 2
    axes = show_images(paddle.to_tensor(images) if kind == "tensor" and n else images, rows, columns)
    assert len(axes) == rows * columns and sum(bool(ax.images) for ax in axes) == min(n, rows * columns)
    for ax in axes:
        for image in ax.images:
            shown = image.get_array()
            assert shown.shape[:2] == (8, 8) and 0 <= shown.min() and shown.max() <= (255 if kind == "uint8" else 1)
    plt.close("all")


def test_show_images_tells_right_from_wrong():
    axes = show_images(np.zeros((3, 4, 4, 3), np.uint8), 1, 3, pred=["cat", "dog", "cat"], gt=["cat", "cat", "cat"])
    assert [ax.get_title() for ax in axes] == ["cat", "dog\nis cat", "cat"]
    assert [ax.title.get_color() for ax in axes] == [plots.style.RIGHT, plots.style.WRONG, plots.style.RIGHT]
    assert show_images(np.zeros((1, 4, 4, 3)), 1, 1, pred=["cat"])[0].get_title() == "cat"


def test_show_images_refuses():
    with pytest.raises(ValueError, match="pred has 1 names for 2 images"):
        show_images(np.zeros((2, 4, 4, 3)), 1, 2, pred=["cat"])
    with pytest.raises(ValueError, match=r"image of shape \(4, 4, 5\)"):
        show_images(np.zeros((1, 4, 4, 5)), 1, 1)


def test_confusion():
    labels, predicted = [0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 0, 2]
    assert plots.confusion_matrix(labels, predicted, 3).tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 1]]
    ax = plots.plot_confusion(labels, predicted, ["a", "b", "c"])
    assert sorted(text.get_text() for text in ax.texts) == ["100", "33", "50", "50", "67"]


@pytest.mark.parametrize("count", [2, 10, 37, 100, 1000])
def test_confusion_and_accuracy_of_any_number_of_classes_are_readable(count, tmp_path):
    names = [f"a class with a very long name, number {i}" for i in range(count)]
    labels = np.repeat(np.arange(count), 3)
    predicted = np.where(np.arange(len(labels)) % 3, labels, (labels + 1) % count)
    predicted[:3] = 1  # the largest confusion
    for draw in (plots.plot_confusion, plots.plot_class_accuracy):
        with Image.open(_saved(tmp_path / "a.png", draw, labels, predicted, names)) as picture:
            assert max(picture.size) / 150 < 14.5
        ax = draw(labels, predicted, names)
        ax.figure.canvas.draw()
        boxes = [text.get_window_extent() for text in ax.get_yticklabels()]
        sides = sorted((box.y0, box.y1) for box in boxes)
        assert all(upper[0] - lower[1] > -0.15 * (lower[1] - lower[0]) for lower, upper in zip(sides, sides[1:]))
        if draw is plots.plot_confusion and count > 40:
            assert not ax.texts
            assert ax.figure.axes[1].texts[0].get_text().startswith("a class with a very lo… as a class with a very lo…"
                                                                    ": 3 of 3\na class")


def _saved(path, draw, *arguments):
    plots.save_figure(path, draw, *arguments)
    return path


def test_confusion_refuses():
    with pytest.raises(ValueError, match="must both be"):
        plots.confusion_matrix([0, 1, 1], [0], 2)
    with pytest.raises(ValueError, match="predicted from -1 to 1 are outside the 2 classes"):
        plots.confusion_matrix([0, 1], [-1, 1], 2)


def test_class_accuracy():
    ax = plots.plot_class_accuracy([0, 0, 1, 2], [0, 1, 1, 0], ["a", "b", "c"])
    assert [bar.get_width() for bar in ax.patches] == [0.5, 1, 0]
    assert ax.lines[0].get_xdata()[0] == 0.5


def epochs(accuracies, seconds):
    """A history whose epochs train for ``seconds`` each, and are validated for as long again."""
    history = History()
    for number, (accuracy, trained) in enumerate(zip(accuracies, seconds), 1):
        history.add_epoch({"epoch": number, "step": number, "val_loss": 1.0, "val_acc": accuracy,
                           "train_seconds": trained, "seconds": 2 * sum(seconds[:number])})
    return history


def test_accuracy_is_the_mean_over_seeds():
    runs = {"a": [epochs([0.2, 0.5], [10, 10]), epochs([0.4, 0.6], [12, 12])], "b": [epochs([0.1, 0.3], [5, 4])]}
    by_epoch, by_time = plots.plot_accuracy(runs)
    name = "a: 55.00 ± 7.07 % (n=2)"
    np.testing.assert_allclose(lines(by_epoch)[name], [[1, 0.3], [2, 0.55]])
    np.testing.assert_allclose(lines(by_time)[name], [[11, 0.3], [22, 0.55]])
    np.testing.assert_allclose(lines(by_time)["b: 30.00 %"], [[5, 0.1], [9, 0.3]])
    band = by_epoch.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((0.2, 0.6))


@pytest.mark.parametrize("histories", [[], [History()], [epochs([0.1], [1]), epochs([0.1, 0.2], [1, 2])]])
def test_accuracy_refuses(histories):
    with pytest.raises(ValueError, match="runs.'a'. must be one or more histories with equally many epochs"):
        plots.plot_accuracy({"a": histories})
    assert not plt.get_fignums()


def test_tradeoff():
    row = {"network": "a", "images": 100, "median": 0.5, "low": 0.4, "high": 0.8, "accuracy": [0.8, 0.9]}
    eager, engine = plots.plot_tradeoff({"eager": [row], "engine": [{**row, "median": 0.1, "low": 0.1, "high": 0.1}]})
    assert [ax.lines[0].get_xydata().tolist() for ax in (eager, engine)] == [[[200, pytest.approx(0.85)]],
                                                                             [[1000, pytest.approx(0.85)]]]
    assert eager.collections[0].get_segments()[0][:, 0] == pytest.approx([125, 250])
    assert [text.get_text() for text in engine.get_legend().get_texts()] == ["a"]
    assert [ax.get_title() for ax in (eager, engine)] == ["eager", "engine"]


def test_shares_in_words():
    assert plots.describe_shares([0.9]) == "90.00 %" and plots.describe_shares([0.9, 0.92]) == "91.00 ± 1.41 % (n=2)"


def test_curves_of_several_runs_in_one_figure(tmp_path):
    from paddle_fasternet import History
    histories = {}
    for name, count in (("short", 1), ("long", 4)):
        histories[name] = History()
        for epoch in range(count):
            histories[name].epochs.append({"epoch": epoch + 1, "train_loss": 2 - epoch / 4, "train_acc": epoch / 4,
                                           "val_loss": 1.5, "val_acc": epoch / 8})
    loss, accuracy = plots.plot_histories(histories)
    assert [line.get_xdata().tolist() for line in loss.lines] == [[1], [1], [1, 2, 3, 4], [1, 2, 3, 4]]
    assert accuracy.lines[3].get_ydata().tolist() == [0, 0.125, 0.25, 0.375]
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["short", "long"]
    for runs in ({}, {"empty": History()}):
        with pytest.raises(ValueError, match="must have at least one epoch"):
            plots.plot_histories(runs)
