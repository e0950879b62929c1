"""Predictors in forked and spawned processes, pickled, copied, and in their number."""
import copy
import gc
import multiprocessing
import os
import pickle
import sys
import threading
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from networks import trained_like

from paddle_fasternet import Classifier, LimeExplainer, evaluate, load_run
from paddle_fasternet.data import ImageSet
from paddle_fasternet.deploy import ENGINES, Predictor, export, offered
from paddle_fasternet.training import use_native_kernels
from paddle_fasternet.training.native import why_not
from paddle_fasternet.weights import CIFAR10_RUN

OFFERED = [name for name in ENGINES if offered(name)]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def pictures(count=40, size=16):
    return np.random.RandomState(2).randint(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    return trained_like()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return export(model, tmp_path_factory.mktemp("export") / "net", 16, progress=False)


def in_forked_child(function, seconds=60):
    """What a function returns in a forked child; fails where it hangs."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def run():
        try:
            theirs.send(function())
        except Exception as error:
            theirs.send(error)

    child = context.Process(target=run)
    child.start()
    try:
        assert ours.poll(seconds), "the child hangs"
        found = ours.recv()
    finally:
        child.kill()
        child.join()
    if isinstance(found, Exception):
        raise found
    return found


@pytest.mark.parametrize("kind", ["folder", "network"])
@pytest.mark.parametrize("engine", OFFERED)
def test_what_was_used_before_a_fork_is_used_after_it(engine, kind, folder, model):
    source, more = (folder, {}) if kind == "folder" else (model, {"image_size": 16})
    gone, predictor, images = (*(Predictor(source, engine, "fp32", **more) for _ in range(2)), pictures())
    expected = gone(images), gone(images[:1])
    assert np.abs(predictor(images) - expected[0]).max() < 1e-6
    del gone  # OpenVINO would give its threads, which the child has not, to the next network
    gc.collect()

    def child():
        nonlocal predictor
        found = predictor(images), predictor(images[:1]), Predictor(source, engine, "fp32", **more)(images)
        grandchild = in_forked_child(lambda: predictor(images))
        predictor = None  # what was inherited is not destroyed
        gc.collect()
        return (*found, grandchild)

    for found, wanted in zip(in_forked_child(child), (*expected, expected[0], expected[0])):
        assert np.abs(found - wanted).max() < 1e-6
    assert np.abs(predictor(images) - expected[0]).max() < 1e-6  # here it goes on as before


def test_a_fork_while_another_thread_predicts(folder):
    predictor, images, stop = Predictor(folder, "onnxruntime"), pictures(), threading.Event()
    expected = predictor(images)
    thread = threading.Thread(target=lambda: [predictor(images) for _ in iter(stop.is_set, True)])
    thread.start()
    try:
        time.sleep(0.05)
        with predictor._lock():  # at the time of the fork a thread of the parent holds it
            found = in_forked_child(lambda: predictor(images))
    finally:
        stop.set()
        thread.join()
    assert np.abs(found - expected).max() < 1e-6


def test_a_child_leaves_its_parents_files(model):
    predictor = Predictor(model, "onnxruntime", image_size=16)
    files = predictor._files
    in_forked_child(lambda: files.__dict__.clear() or gc.collect())
    path, = files.find([("model.onnx",)], lambda *_: pytest.fail("the file is gone"), "")
    assert path.exists()


def lime(model):
    return LimeExplainer(model, 120, 60, segmentation=quarters, regressor="ridge")


def quarters(image):
    return np.arange(image.shape[0])[:, None] // 8 * 2 + np.arange(image.shape[1]) // 8


@pytest.mark.parametrize("remake", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],
                         ids=["deepcopy", "pickle"])
def test_everything_is_copied_and_pickled(remake, folder, model):
    images = pictures(4)
    for predictor in (Predictor(folder), Predictor(model, "native" if offered("native") else "eager", image_size=16)):
        again = remake(predictor)
        assert repr(again) == repr(predictor)
        np.testing.assert_allclose(again(images), predictor(images), atol=1e-6)
    explainer = lime(model)
    options = {"num_samples": 40, "progress": False}
    found, again = explainer.explain(images[0], **options), remake(explainer).explain(images[0], **options)
    np.testing.assert_allclose(again.coefficients, found.coefficients, atol=1e-5)
    np.testing.assert_array_equal(remake(found).coefficients, found.coefficients)
    classifier = remake(Classifier(model, 16, 120, 60))
    assert (classifier.image_size, classifier.class_names) == (16, tuple("01234"))
    run = load_run(CIFAR10_RUN, "final")
    assert remake(run).history == run.history and remake(run).class_names == run.class_names


def test_a_copy_has_a_network_of_its_own(model):
    model = copy.deepcopy(model)
    predictor, images = Predictor(model, "eager", image_size=16), pictures(4)
    again, expected = copy.deepcopy(predictor), predictor(images)
    model.head.weight.set_value(model.head.weight * 0)
    assert np.ptp(predictor(images), axis=1).max() < 1e-6
    np.testing.assert_allclose(again(images), expected, atol=1e-6)


@pytest.mark.skipif(bool(why_not(trained_like())), reason=why_not(trained_like()))
def test_a_network_with_native_kernels_is_pickled():
    model = use_native_kernels(trained_like(drop_path_rate=0.0))
    model.train()
    x = paddle.to_tensor(np.random.RandomState(0).standard_normal((2, 3, 16, 16)).astype("float32"))
    model(x).mean().backward()  # from now on the kernels keep memory
    again = pickle.loads(pickle.dumps(model))
    model.clear_gradients()
    for network in (model, again):
        network(x).mean().backward()
    assert again.kernels.kind == model.kernels.kind
    np.testing.assert_allclose(again.head.weight.grad.numpy(), model.head.weight.grad.numpy(), atol=1e-6)


def test_spawned_workers_take_a_predictor(folder):
    predictor, images = Predictor(folder, "onnxruntime"), pictures(4)
    pool = multiprocessing.get_context("spawn").Pool(1)
    try:
        np.testing.assert_allclose(pool.apply_async(predictor, [images]).get(100), predictor(images), atol=1e-6)
    finally:
        pool.close()  # not terminate: Paddle's handler of SIGTERM allocates memory, and can wait for itself for ever
        pool.join()


def test_a_worker_evaluates(folder, model):
    known = ImageSet(pictures().transpose(0, 3, 1, 2), np.arange(40) % 5, tuple("01234"))
    classifier = Classifier(model, 16, 120, 60)
    expected = evaluate(classifier, known).loss
    assert in_forked_child(lambda: evaluate(classifier, known).loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("kind", ["folder", "network"])
@pytest.mark.parametrize("engine", OFFERED)
def test_memory_does_not_grow_with_the_number_of_predictors(engine, kind, tmp_path):
    model = trained_like(depths=(1, 1), embed_dim=64, feature_dim=1280, num_classes=1000)  # 6 MB
    source, more = (export(model, tmp_path / "net", 16, progress=False), {}) if kind == "folder" else (
        model, {"image_size": 16})
    images, seen = pictures(2), []
    for _ in range(9):
        Predictor(source, engine, "fp32", **more)(images)
        gc.collect()
        seen.append((int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
                     len(gc.get_objects())))
    (first, objects), (last, objects_then) = seen[2], seen[-1]
    assert last - first < 18, seen  # MB; paddle.jit.load kept 12 each time, jit.save of Paddle 2.6 six
    assert objects_then - objects < 6 * 1500, seen  # paddle.jit.save 5,000 objects
