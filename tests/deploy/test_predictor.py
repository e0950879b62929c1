import json

import numpy as np
import paddle
import pytest
from deploying import MEAN, STD, batch, pictures, small
from PIL import Image

from paddle_fasternet import evaluate
from paddle_fasternet.data import Augment, ImageSet
from paddle_fasternet.deploy import (
    ENGINES,
    Predictor,
    export,
    predictor,
)
from paddle_fasternet.native import cpu
from paddle_fasternet.weights import CIFAR10_RUN


def test_any_kind_and_number_of_images(folder, tmp_path):
    fast = Predictor(folder[0], "onnxruntime")
    images = pictures(70)
    expected = fast(images)
    assert expected.shape == (70, 5) and np.allclose(expected.sum(1), 1, atol=1e-6)
    assert np.allclose(fast(list(images)), expected, atol=1e-6)
    assert np.allclose(fast(image for image in images), expected, atol=1e-6)
    paths = []
    for i, image in enumerate(images[:3]):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    mixed = [paths[0], str(paths[1]), Image.fromarray(images[2]), images[3]]
    assert np.allclose(fast(mixed), expected[:4], atol=1e-6)
    for single in (str(paths[0]), paths[0], Image.fromarray(images[0]), images[0]):
        assert np.allclose(fast(single), expected[:1], atol=1e-6)
    # the central square of what is not square, resized where it has another size
    wide = np.concatenate([np.zeros((16, 5, 3), np.uint8), images[0], np.zeros((16, 5, 3), np.uint8)], 1)
    assert np.allclose(fast(wide), expected[:1], atol=1e-6)
    assert np.allclose(fast(images[:2].repeat(2, 1).repeat(2, 2)), expected[:2], atol=1e-5)


def test_a_stream_of_images_is_not_gathered_in_memory(folder):
    taken, done = [], []

    def stream():
        for i in range(400):
            taken.append(i)
            yield np.zeros((16, 16, 3), np.uint8)

    fast = Predictor(folder[0], "onnxruntime")
    run = fast._run

    def watched(x):
        done.append(len(x))
        assert len(taken) - sum(done) <= 3 * 32
        return run(x)

    fast._run = watched
    assert fast(stream()).shape == (400, 5) and sum(done) == 400


def test_auto_measures_once_and_remembers(folder, monkeypatch):
    first = Predictor(folder[0])
    assert first.precision in ("fp32", "bf16", "int8") and first.engine in ENGINES
    memory = json.loads(predictor._memory().read_text())
    assert [entry["choice"] for entry in memory.values()] == [[first.engine, first.precision]]
    speeds = next(iter(memory.values()))["images_per_second"]
    assert f"{first.engine} {first.precision}" in speeds and len(speeds) >= 4

    def never(*arguments, **options):
        raise AssertionError("it was measured again")

    monkeypatch.setattr(predictor, "time_in_turn", never)
    again = Predictor(folder[0])
    assert (again.engine, again.precision) == (first.engine, first.precision)
    predictor._memory().write_text("{ damaged")
    with pytest.raises(ValueError, match="measured again"):
        Predictor(folder[0])


def test_auto_takes_only_precisions_that_the_record_shows_to_be_good(folder, monkeypatch):
    fast = Predictor(folder[0], "onnxruntime", "fp32")
    good = {"top1": 0.7, "same_as_fp32": 1.0}
    for record, accepted in [({}, False), ({"fp32": good}, False), ({"fp32": good, "bf16": good}, True),
                             ({"fp32": good, "bf16": {**good, "top1": 0.696}}, False),
                             ({"fp32": good, "bf16": {**good, "same_as_fp32": 0.98}}, False)]:
        fast._files.accuracy = record
        assert fast._accepted("bf16") == accepted, record


def test_a_home_that_cannot_be_written_is_no_obstacle(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert Predictor(folder[0], "onnxruntime", "auto")(pictures(2)).shape == (2, 5)
    assert Predictor(folder[0])(pictures(2)).shape == (2, 5)


@pytest.mark.parametrize("images, message", [
    (np.zeros((2, 16, 16, 3)), "float64 must be uint8"),
    (np.zeros((2, 3, 16, 16), np.uint8), r"move the channels: images.transpose\(0, 2, 3, 1\)"),
    (np.zeros((16, 16, 2), np.uint8), r"\[16, 16, 2\] must have 1, 3 or 4 channels last$"),
    (np.zeros((3, 16, 16), np.uint8), r"move the channels: images.transpose\(1, 2, 0\)"),
    (np.zeros((2, 0, 16, 3), np.uint8), r"must be \[N, H, W, C\]"),
    ([np.zeros((2, 16, 16, 3), np.uint8)], "among single images"),
    (3, "must be uint8"), ("missing.png", "no such image file"), ([__file__], "is not an image"),
])
def test_images_that_are_none(folder, images, message):
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=message):
        Predictor(folder[0], "onnxruntime")(images)


def test_batches_that_do_not_fit(folder):
    fast = Predictor(folder[0], "onnxruntime")
    for x in (batch(size=20), batch().astype(np.float64), batch(channels=1), "x", None):
        with pytest.raises(ValueError, match=r"must be float32 \['N', 3, 16, 16\]"):
            fast.logits(x)


def test_sources_and_settings_that_are_none(folder, tmp_path, monkeypatch):
    out, model, _ = folder
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Predictor(tmp_path / "missing")
    with pytest.raises(ValueError, match="is not an exported network: it has no export.json"):
        Predictor(tmp_path)
    with pytest.raises(ValueError, match=r"it holds a trained run: use load_run\(folder\), or export it first"):
        Predictor(CIFAR10_RUN)
    with pytest.raises(TypeError, match="int is neither a network"):
        Predictor(3)
    with pytest.raises(ValueError, match="image_size=None: a network does not know it"):
        Predictor(model)
    with pytest.raises(ValueError, match="image_size, mean: an exported folder has its own"):
        Predictor(out, image_size=16, mean=MEAN)
    with pytest.raises(ValueError, match="smaller than the network's stride"):
        Predictor(model, image_size=4)
    with pytest.raises(ValueError, match="class_names has 2 names for a network of 5 outputs"):
        Predictor(model, image_size=16, class_names=["a", "b"])
    with pytest.raises(TypeError, match="mean='grey' must hold a number for each channel"):
        Predictor(model, image_size=16, mean="grey")
    with pytest.raises(ValueError, match="std above 0"):
        Predictor(model, image_size=16, std=(1, 0, 1))
    with pytest.raises(ValueError, match="engine='openvin' is not known; did you mean 'openvino'"):
        Predictor(out, "openvin")
    with pytest.raises(ValueError, match="precision='fp-32' is not known; did you mean"):
        Predictor(out, "auto", "fp-32")
    with pytest.raises(ValueError, match="threads=0 must be an integer >= 1"):
        Predictor(out, threads=0)
    with pytest.raises(ValueError, match="'bf16' is not offered by engine='onnxruntime', which has fp32, int8"):
        monkeypatch.setattr(cpu, "has_bfloat16", lambda: True)
        Predictor(out, "onnxruntime", "bf16")
    with pytest.raises(ValueError, match="precision='int8' needs a quantised network: export it with calibration"):
        Predictor(model, "auto", "int8", image_size=16)


def test_several_threads_may_share_a_predictor(folder):
    from concurrent.futures import ThreadPoolExecutor
    fast, images = Predictor(folder[0], "openvino"), pictures(40)
    expected = fast(images)
    with ThreadPoolExecutor(4) as pool:
        for actual in pool.map(fast, [images] * 8):
            assert np.array_equal(actual, expected)


def test_evaluation_through_a_predictor_is_the_same(folder):
    out, model, known = folder
    known = ImageSet(known.images, np.arange(40) % 5, known.class_names, "made", "here")
    slow = evaluate(model, known, Augment("none", 16, MEAN, STD))
    fast = evaluate(Predictor(out, "onnxruntime"), known)
    assert fast.accuracy == slow.accuracy and fast.loss == pytest.approx(slow.loss, rel=1e-5)
    assert np.abs(fast.probabilities - slow.probabilities).max() < 1e-5
    with pytest.raises(ValueError, match="a Predictor prepares the images by itself"):
        evaluate(Predictor(out, "onnxruntime"), known, Augment("none", 16, MEAN, STD))
    with pytest.raises(ValueError, match=r"outputs of shape \[None, 5\], the images have 2 classes"):
        evaluate(Predictor(out, "onnxruntime"), ImageSet(known.images, np.arange(40) % 2, ("a", "b"), "made", "here"))


def test_images_that_are_not_square_are_cropped_by_all(folder):
    _, model, _ = folder
    wide = ImageSet(pictures(6, 24).transpose(0, 3, 1, 2)[:, :, :16], np.arange(6) % 5, tuple("abcde"))
    slow = evaluate(model, wide, Augment("none", 16, MEAN, STD))
    fast = evaluate(Predictor(model, "eager", image_size=16, mean=MEAN, std=STD, class_names=tuple("abcde")), wide)
    np.testing.assert_allclose(fast.probabilities, slow.probabilities, atol=1e-6)


def test_statistics_of_images_from_0_to_1_are_refused_and_one_number_is_for_all_channels(tmp_path):
    model = small()
    with pytest.raises(ValueError, match="are those of images 0..1; multiply both by 255"):
        Predictor(model, "eager", image_size=16, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    with pytest.raises(ValueError, match="multiply both by 255"):
        export(model, tmp_path / "new", 16, mean=0.5, std=0.5)
    one, three = (Predictor(model, "eager", image_size=16, mean=mean, std=std)(pictures(3))
                  for mean, std in ((127.5, 64), ([127.5] * 3, [64] * 3)))
    np.testing.assert_array_equal(one, three)


def test_a_grey_network_reads_files(tmp_path):
    model, grey = small(in_channels=1), pictures(1)[0, :, :, :1]
    Image.fromarray(grey[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(grey.repeat(3, 2)).save(tmp_path / "colour.png")
    predictor = Predictor(model, "eager", image_size=16, mean=120, std=60)
    expected = predictor(grey)
    for image in (tmp_path / "grey.png", tmp_path / "colour.png", Image.open(tmp_path / "grey.png")):
        np.testing.assert_array_equal(predictor(image), expected)


def test_classify_gives_names_and_probabilities(folder):
    predictor = Predictor(folder[0], "paddle", "fp32")
    images = pictures(5, 40)
    probabilities = predictor(images)
    for found, row in zip(predictor.classify(images, k=2), probabilities):
        assert [name for name, _ in found] == [predictor.class_names[i] for i in np.argsort(-row)[:2]]
        assert [value for _, value in found] == sorted(map(float, row), reverse=True)[:2]
    assert len(predictor.classify(images[0], k=99)[0]) == len(predictor.class_names)
    with pytest.raises(ValueError, match="k=0"):
        predictor.classify(images, k=0)


def test_on_a_gpu_no_engine_of_the_cpu_is_taken_unasked(monkeypatch):
    predictor = Predictor(small(), "eager", image_size=16)
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: False)
    monkeypatch.setattr(paddle.amp, "is_float16_supported", lambda: True)
    assert {engine for engine, _ in predictor._candidates("auto", "auto")} == {"eager", "paddle"}
    assert predictor._candidates("auto", "fp16") == [("paddle", "fp16")]
    with pytest.raises(ValueError, match="precision='bf16' is not to be had on this GPU; .* engine='native'"):
        predictor._candidates("auto", "bf16")


def test_fp16_is_for_a_gpu():
    for engine in ("auto", "paddle", "native"):
        with pytest.raises(ValueError, match="precision='fp16' is for a GPU"):
            Predictor(small(), engine, "fp16", image_size=16)
