"""What a notebook shows of an object that stands alone in a cell: one line, whatever its size."""
import numpy as np
import pytest
from networks import telling_apart

import paddle_fasternet as pf
from paddle_fasternet.evaluation import Evaluation
from paddle_fasternet.explain.faithfulness import Faithfulness


def history():
    found = pf.History()
    found.add_steps(1, [1.0] * 9000, [0.5] * 9000)
    for epoch, accuracy in ((1, 0.5), (2, 0.75), (3, 0.6)):
        found.add_epoch({"epoch": epoch, "step": 3000 * epoch, "val_loss": 1.0, "val_acc": accuracy})
    return found


def explanation():
    return pf.LimeExplainer(lambda images: np.full((len(images), 3), 1 / 3)).explain(
        np.zeros((8, 8, 3), np.uint8), segments=np.arange(64).reshape(8, 8) // 16, num_samples=40, progress=False)


def loaded(tmp_path):
    model = telling_apart(num_classes=3)
    pf.save_weights(model, tmp_path / "w.pdparams")
    return pf.load_weights(model, tmp_path / "w.pdparams")


@pytest.mark.parametrize(("make", "wanted"), [
    (lambda _: history(), "History(3 epochs, 9,000 steps, val_acc 75.00% at best, after epoch 2)"),
    (lambda _: pf.History(), "History(0 epochs, 0 steps)"),
    (lambda _: pf.load_run("cifar10"), "Run(fasternet_t0, image_size=32, cifar10, 10 classes, History(60 epochs"),
    (lambda _: Evaluation(0.25, 0.9, np.zeros((5000, 10))), "Evaluation(accuracy 90.00%, loss 0.2500, 5,000 images"),
    (lambda _: pf.ImageSet(np.zeros((2000, 1, 8, 9), np.uint8), [0] * 2000, "abc", "mine"),
     "ImageSet('mine', 2,000 images 8 x 9, grey, 3 classes)"),
    (lambda _: explanation(), "Explanation(1 of 3 classes, 4 segments, 40 samples, class 0 33.3%, R² "),
    (loaded, "LoadReport("),
    (lambda _: Faithfulness(np.zeros(900), np.zeros(900), np.zeros(900)), "Faithfulness("),
    (lambda _: pf.Predictor(telling_apart(num_classes=3), "eager", image_size=32), "Predictor(engine='eager'"),
    (lambda _: pf.fasternet_t0(pretrained="cifar10").bundle, "Classifier(FasterNet, image_size=32, classes=10)"),
])
def test_one_line(make, wanted, tmp_path):
    text = repr(make(tmp_path))
    assert text.startswith(wanted) and "\n" not in text and len(text) < 250


def test_the_shipped_run_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()  # a data set's folder, say
    for which in ("best", "final"):
        run = pf.load_run("cifar10", which)
        assert run.class_names[3] == "cat"
        shipped = pf.fasternet_t0(pretrained="cifar10")
        for name, value in shipped.state_dict().items():
            np.testing.assert_array_equal(run.model.state_dict()[name].numpy(), value.numpy())
    (tmp_path / "cifar10" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="cifar10 is not the folder of a finished run: it has no history.json"):
        pf.load_run("cifar10")
