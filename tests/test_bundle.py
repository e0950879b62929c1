import copy

import numpy as np
import paddle
import pytest
from paddle import nn

import paddle_fasternet as pf
from paddle_fasternet.bundle import IMAGENET_MEAN
from paddle_fasternet.data import ImageSet
from paddle_fasternet.weights import CIFAR10_RUN, pretrained


def small(**arguments):
    paddle.seed(3)
    model = pf.FasterNet(**{"embed_dim": 8, "depths": (1, 1), "merge_sizes": (2,), "feature_dim": 16, "num_classes": 5,
                            "init": "he", **arguments})
    model.eval()
    return model


def pixels(count=6, size=32):
    return np.random.RandomState(2).randint(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture(scope="module")
def shipped():
    return pf.fasternet_t0(pretrained="cifar10"), pf.load_run(CIFAR10_RUN, "final")


def test_a_pretrained_network_knows_what_its_run_knows(shipped):
    model, run = shipped
    for name in ("image_size", "mean", "std", "class_names"):
        assert getattr(model.bundle, name) == getattr(run.classifier, name), name
    assert model.bundle.model is model and model.bundle.class_names[3] == "cat"
    expected = pf.Predictor(run, "eager", "fp32")(pixels())
    predictor = pf.Predictor(model, "eager", "fp32")
    assert predictor.class_names == run.class_names
    np.testing.assert_array_equal(predictor(pixels()), expected)
    np.testing.assert_array_equal(pf.Predictor(copy.deepcopy(model), "eager", "fp32")(pixels()), expected)
    np.testing.assert_array_equal(pf.Predictor(run.classifier, "eager", "fp32")(pixels()), expected)
    explainer = pf.LimeExplainer(model, engine="eager")
    np.testing.assert_array_equal(explainer.predict_fn(pixels()), expected)
    assert explainer.explain(pixels()[0], segments=np.arange(1024).reshape(32, 32) // 64, num_samples=50,
                             progress=False).class_names == run.class_names


def test_every_source_is_evaluated_alike(shipped):
    model, run = shipped
    images = ImageSet(pixels(20).transpose(0, 3, 1, 2), np.arange(20) % 10, run.class_names)
    expected = pf.evaluate(run.model, images, run.preprocess)
    for source in (run, run.classifier, model.bundle, pf.Predictor(model, "eager", "fp32")):
        found = pf.evaluate(source, images)
        assert found.loss == pytest.approx(expected.loss, rel=1e-4) and found.accuracy == expected.accuracy
    with pytest.raises(ValueError, match="a Classifier prepares the images by itself: leave it out"):
        pf.evaluate(run.classifier, images, run.preprocess)


def test_arguments_are_used_instead_of_what_a_network_knows(shipped):
    known = pf.Classifier.of(shipped[0], image_size=64, class_names=list("abcdefghij"))
    assert (known.image_size, known.class_names) == (64, tuple("abcdefghij"))
    assert known.mean == shipped[1].classifier.mean


def test_class_names_go_with_the_head_they_belong_to():
    model = pf.fasternet_t0(pretrained="cifar10")
    model.head.weight.set_value(model.head.weight * 1.5)
    assert model.bundle.class_names == tuple(map(str, range(10))) and model.bundle.image_size == 32
    model.head = nn.Linear(model.head.weight.shape[0], 3)
    assert model.bundle.class_names == ("0", "1", "2")
    assert pf.fasternet_t0(pretrained="cifar10", num_classes=4).bundle.class_names == tuple("0123")


@pytest.mark.parametrize("load", [
    lambda model, path: pf.load_weights(model, path), lambda model, path: model.set_state_dict(paddle.load(str(path))),
    lambda model, path: model.load_dict(paddle.load(str(path)))], ids=["load_weights", "set_state_dict", "load_dict"])
def test_other_weights_end_what_is_known(tmp_path, load):
    model, path = pf.fasternet_t0(pretrained="cifar10"), tmp_path / "own.pdparams"
    paddle.save(model.state_dict(), str(path))
    load(model, path)
    assert model.bundle is None
    with pytest.raises(ValueError, match="image_size=None: a network does not know it"):
        pf.Predictor(model)


def test_weights_of_a_file_say_nothing(tmp_path, shipped):
    assert pf.fasternet_t0().bundle is None
    model = pf.create_model("fasternet_t0", pretrained=str(CIFAR10_RUN / "final_model.pdparams"),
                            **pretrained.shipped_arguments("fasternet_t0", "cifar10"))
    assert model.bundle is None


def test_imagenet_weights_know_their_preprocessing(monkeypatch):
    model = small(num_classes=7)
    model.pretrained_facts = pretrained._facts(model, True)
    bundle = model.bundle
    assert (bundle.image_size, bundle.mean, bundle.class_names) == (224, IMAGENET_MEAN, tuple("0123456"))


def test_one_number_stands_for_all_channels():
    known = pf.Classifier(small(), 16, 120, 60)
    assert known.mean == (120.0,) * 3 and known.std == (60.0,) * 3 and known.class_names == tuple("01234")
    assert str(known) == "Classifier(FasterNet, image_size=16, classes=5)"
    x, _ = known.preprocess(pixels(2, 20).transpose(0, 3, 1, 2), None, None)
    assert x.shape == (2, 3, 16, 16)


@pytest.mark.parametrize("arguments, message", [
    ({"model": 3}, "model must be a Layer, not int"), ({"image_size": 0}, "image_size=0 must be an integer >= 1"),
    ({"mean": "grey"}, "mean='grey' must hold a number for each channel"), ({"std": (1, 0, 1)}, "std above 0"),
    ({"mean": (1, 2)}, "one value for each channel"), ({"class_names": "abcde"}, "must be a list of names"),
    ({"std": (1.0, float("nan"), 1.0)}, "finite number"),
    ({"class_names": None, "image_size": 2}, "smaller than the network's stride")])
def test_arguments_that_do_not_fit(arguments, message):
    settings = {"model": small(), "image_size": 16, "mean": 120, "std": 60, "class_names": list("abcde"), **arguments}
    with pytest.raises((TypeError, ValueError), match=message):
        pf.Classifier(**settings)


def test_sources_that_do_not_fit():
    with pytest.raises(TypeError, match="str is neither a network, nor a Classifier, nor what load_run returned"):
        pf.Classifier.of("run")
    with pytest.raises(ValueError, match="class_names has 2 names for a network of 5 outputs"):
        pf.Classifier.of(small(), 16, class_names=["a", "b"])
    with pytest.raises(ValueError, match="are those of images 0..1; multiply both by 255"):
        pf.Classifier.of(small(), 16, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
