import dataclasses
import json

import numpy as np
import paddle
import pytest

pytest.importorskip("ppdet", reason="needs PaddleDetection: make detection")

from paddle_fasternet.detection import (  # noqa: E402
    Box,
    DetectConfig,
    Detector,
    build_detector,
    export_detector,
    load_boxes,
    load_detector,
    match,
    score,
    train_detector,
)
from paddle_fasternet.detection import train as training  # noqa: E402
from paddle_fasternet.detection.detector import EagerNetwork  # noqa: E402

TINY = DetectConfig(image_size=96, batch_size=2, epochs=1, minutes=None, evaluations=2, lr=5e-4)


@pytest.fixture(scope="module")
def run(drawn, tmp_path_factory):
    """(folder, detector, history, lines) of a training of four steps."""
    folder, lines = tmp_path_factory.mktemp("run"), []
    detector, history = train_detector(TINY, *load_boxes(drawn), folder, report=lines.append)
    return folder, detector, history, lines


def test_a_training_leaves_what_it_promises(run):
    folder, _, history, lines = run
    assert {path.name for path in folder.iterdir()} == {"detector.json", "detector.pdparams", "history.json",
                                                        "log.jsonl"}
    assert [entry["step"] for entry in history["evaluations"]] == [2, 4] and len(lines) == 2
    assert json.loads((folder / "history.json").read_text()) == json.loads(json.dumps(history))
    assert history["steps"][-1]["step"] == 4 and history["steps"][-1]["loss"] > 0
    assert set(history["evaluations"][-1]["classes"]) == {"disc", "square"}


def test_a_detector_read_back_gives_the_same_boxes(run, drawn):
    folder, detector, history, _ = run
    _, val = load_boxes(drawn)
    loaded = load_detector(folder, threshold=0.0)
    assert loaded.evaluate(val).ap == pytest.approx(history["evaluations"][-1]["ap"], abs=1e-9)
    boxes = loaded(val.files[0])
    assert boxes and all(isinstance(box, Box) and box.name in ("disc", "square") for box in boxes)
    assert [box.score for box in boxes] == sorted((box.score for box in boxes), reverse=True)
    array = np.array([box.xyxy for box in boxes])
    assert (array >= 0).all() and (array[:, [0, 2]] <= 128).all() and (array[:, [1, 3]] <= 96).all()
    assert loaded(val.picture(0)) == boxes and loaded(val.files[0], threshold=1.0) == []


def test_boxes_are_in_pixels_of_the_picture_as_it_came():
    """A network that always answers the whole input: letterboxed pictures of any size give their own corners."""
    shape = 96, 128
    detector = Detector(lambda x, factors: [np.array([[1, 0.9, 0, 0, 128 / factor, 96 / factor]], np.float32)
                                            for factor in factors], ("a", "b"), shape)
    for height, width in ((480, 640), (50, 900), (2000, 30)):
        box, = detector(np.zeros((height, width, 3), np.uint8))
        assert box.xyxy == [0, 0, width, height] and box.name == "b"
        assert str(box) == f"b 0.90 [0, 0, {width}, {height}]"
    with pytest.raises(ValueError, match=r"must be uint8 \[H, W, 3\]"):
        detector(np.zeros((5, 5), np.uint8))


def test_a_training_resumes_to_the_bit(drawn, tmp_path, run):
    train, val = load_boxes(drawn)
    config = dataclasses.replace(TINY, seed=1)
    whole, _ = train_detector(config, train, val, tmp_path / "whole")

    original = training._Training._evaluate

    def evaluate(self, speed):
        original(self, speed)
        if self.steps == 2:
            self._save()
            raise KeyboardInterrupt
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training._Training, "_evaluate", evaluate)
        with pytest.raises(KeyboardInterrupt):
            train_detector(config, train, val, tmp_path / "cut")
    with pytest.raises(FileExistsError, match="--resume"):
        train_detector(config, train, val, tmp_path / "cut")
    with pytest.raises(ValueError, match="lr is 0.0005 there, 0.1 here"):
        train_detector(dataclasses.replace(config, lr=0.1), train, val, tmp_path / "cut", resume=True)
    resumed, history = train_detector(config, train, val, tmp_path / "cut", resume=True)
    states = [(each.network.model.state_dict(), name) for each, name in ((whole, "whole"), (resumed, "resumed"))]
    for name, tensor in states[0][0].items():
        np.testing.assert_array_equal(tensor.numpy(), states[1][0][name].numpy(), err_msg=name)
    assert [entry["step"] for entry in history["evaluations"]] == [2, 4]
    with pytest.raises(FileExistsError, match="finished"):
        train_detector(config, train, val, tmp_path / "cut", resume=True)


def test_a_limit_of_time_ends_a_training(drawn, tmp_path):
    train, val = load_boxes(drawn)
    config = dataclasses.replace(TINY, epochs=1000, minutes=0.02, evaluations=1)
    _, history = train_detector(config, train, val, tmp_path)
    assert 0.02 * 60 <= history["evaluations"][-1]["seconds"] < 30 and len(history["evaluations"]) == 1


def test_the_exported_detector_gives_the_same_boxes(run, drawn, tmp_path):
    folder, detector, _, _ = run
    _, val = load_boxes(drawn)
    before = {name: tensor.numpy().copy() for name, tensor in detector.network.model.state_dict().items()}
    export_detector(detector, tmp_path / "export")
    exported = load_detector(tmp_path / "export")
    for name, tensor in detector.network.model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])
    for ours, theirs in zip(exported.predict(val.files), detector.predict(val.files)):
        assert len(ours) == len(theirs) > 5
        ours, theirs = (rows[np.argsort(-rows[:, 1])][:5] for rows in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-2)
    with pytest.raises(ValueError, match="is an exported detector"):
        export_detector(exported, tmp_path / "again")
    with pytest.raises(FileExistsError, match="exported detector"):
        train_detector(TINY, *load_boxes(drawn), tmp_path / "export")


def test_damaged_or_foreign_folders_are_refused(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no detector\.json"):
        load_detector(tmp_path)
    (tmp_path / "detector.json").write_text('{"kind": "classifier"}')
    with pytest.raises(ValueError, match="does not describe a detector"):
        load_detector(tmp_path)
    content = json.loads((run[0] / "detector.json").read_text())
    (tmp_path / "detector.json").write_text(json.dumps(content))
    with pytest.raises(FileNotFoundError, match="first evaluation"):
        load_detector(tmp_path)
    (tmp_path / "detector.pdparams").write_bytes((run[0] / "detector.pdparams").read_bytes())
    (tmp_path / "detector.json").write_text(json.dumps({**content, "class_names": ["disc"]}))
    with pytest.raises(ValueError, match="is not of this detector"):
        load_detector(tmp_path)


def test_average_precision_by_hand(drawn):
    """One of two classes is found, the other is half found: AP50 is the mean of 1 and 0.5 (101 recall points)."""
    _, val = load_boxes(drawn)
    truth = dataclasses.replace(val[:2], boxes=(np.array([[0, 0, 20, 20], [40, 40, 60, 60]], np.float32),
                                                np.array([[10, 10, 30, 30]], np.float32)),
                                labels=(np.array([0, 1]), np.array([1])),
                                ignored=(np.zeros(2, bool), np.zeros(1, bool)))
    rows = [np.array([[0, 0.9, 0, 0, 20, 20], [1, 0.8, 40, 40, 60, 60]], np.float32), np.zeros((0, 6), np.float32)]
    result = score(truth, rows)
    assert result.classes["disc"] == {"ap": pytest.approx(1), "ap50": pytest.approx(1), "objects": 1}
    assert result.classes["square"]["ap50"] == pytest.approx(51 / 101) and result.classes["square"]["objects"] == 2
    assert result.ap50 == pytest.approx((1 + 51 / 101) / 2) and "AP50" in str(result)
    assert score(truth, [np.zeros((0, 6), np.float32)] * 2).ap50 == 0
    with pytest.raises(ValueError, match="predictions of 1 pictures"):
        score(truth, rows[:1])


def test_match_gives_an_object_to_the_best_scored_box_alone():
    truth, labels = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32), np.array([0, 1])
    rows = np.array([[0, 0.5, 0, 0, 10, 10], [0, 0.9, 1, 0, 10, 10], [0, 0.8, 20, 20, 30, 30]], np.float32)
    found, right = match(truth, labels, rows)
    assert found.tolist() == [True, False] and right.tolist() == [False, True, False]
    found, right = match(np.zeros((0, 4)), np.zeros(0), rows)
    assert found.tolist() == [] and right.tolist() == [False] * 3


def test_a_detector_learns_one_picture(drawn):
    """Forty steps on two pictures: the loss falls to a fraction and the objects are found."""
    paddle.seed(0)
    train, _ = load_boxes(drawn)
    pair = train[[0, 1]]
    config = dataclasses.replace(TINY, flip="none")
    model = build_detector(2, pretrained="cifar10")
    batches = training.Batches(pair, (96, 128), config)
    optimizer = paddle.optimizer.AdamW(1e-3, parameters=model.parameters())
    model.train()
    losses = []
    for step in range(40):
        batch = {name: paddle.to_tensor(array) for name, array in batches(step).items()}
        loss = model({**batch, "epoch_id": int(step > 5)})["loss"]
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(float(loss))
    batches.close()
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    detector = Detector(EagerNetwork(model), pair.class_names, (96, 128))
    assert detector.evaluate(pair).ap50 > 0.5


@pytest.mark.parametrize("change, message", [
    ({"backbone": "fasternet"}, "backbone='fasternet' is not known"),
    ({"backbone": "ResNet18", "pretrained": True}, "pretrained=True goes with a FasterNet"),
    ({"image_size": 64}, "image_size=64"),
    ({"minutes": 0}, "minutes=0"),
    ({"flip": "vertical"}, "flip='vertical'"),
])
def test_settings_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        DetectConfig(**change)
