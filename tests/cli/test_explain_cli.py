"""``paddle-fasternet explain``."""
import numpy as np
import pytest
from PIL import Image

from paddle_fasternet import ImageSet, Predictor, TrainConfig, app, cli, fit, load_run
from paddle_fasternet.explain import Explanation
from paddle_fasternet.weights import CIFAR10_RUN

RUN = ["--run", str(CIFAR10_RUN), "--which", "final"]


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rough = np.random.default_rng(0).integers(60, 200, (5, 7, 3), np.uint8)
    Image.fromarray(rough).resize((70, 50), Image.BICUBIC).save("picture.png")


def explain(*arguments):
    return cli.main(["explain", "picture.png", *RUN, *arguments])


def test_lime(tmp_path, capsys):
    assert explain("--samples", "500", "--label", "cat") == 0
    assert capsys.readouterr().out.startswith("picture.png: cat ")
    with Image.open("explanation.png") as drawn:
        assert drawn.width > 1000
    assert explain("--samples", "500", "--label", "3", "--seed", "1", "--out", "numbers/cat.npz") == 0
    found = Explanation.load("numbers/cat.npz")
    assert found.labels == (3,) and found.name() == "cat" and found.num_samples == 500
    assert found.image.shape == (32, 32, 3)
    np.testing.assert_array_equal(found.masks[1], np.random.RandomState(1).randint(0, 2, found.masks[:2].shape)[1])


def test_gradients(capsys):
    assert explain("--method", "gradcam", "--out", "cam.jpg") == 0
    assert "picture.png: Grad-CAM; written to cam.jpg" in capsys.readouterr().out
    with Image.open("cam.jpg") as drawn:
        assert drawn.format == "JPEG" and drawn.width > 500


@pytest.mark.parametrize(("arguments", "message"), [
    (["--label", "kat"], "--label='kat' is not known; did you mean 'cat'"),
    (["--label", "10"], "--label='10' is not known"),
    (["--method", "grad-cam"], "--method='grad-cam' is not known; did you mean 'gradcam'"),
    (["--out", "found.gif"], "ending of --out='.gif' is not known"),
    (["--method", "all", "--out", "found.npz"], "ending of --out='.npz' is not known"),
    (["--samples", "0"], "--samples=0 must be an integer >= 1"),
    (["--seed", "-1"], "--seed=-1 must be an integer >= 0"),
    (["--out", "picture.png/found.png"], "--out='picture.png' cannot be written"),
])
def test_errors_are_one_line_and_status_2(arguments, message, capsys):
    assert explain(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("paddle-fasternet explain: ") and error.count("\n") == 1


def test_missing_files(capsys):
    assert cli.main(["explain", "missing.png", *RUN]) == 2
    assert "missing.png: there is no such image file" in capsys.readouterr().err
    assert cli.main(["explain", "picture.png", "--run", "nowhere"]) == 2
    assert "nowhere is not the folder of a finished run" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        cli.main(["explain", "--help"])
    text = capsys.readouterr().out
    assert "--samples" in text and "lime, gradcam, smoothgrad, intgrad, or all" in text and "None" not in text


def test_a_grey_network_is_explained(small_variant, tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (16, 1, 64, 64), np.uint8)
    grey = ImageSet(images, [0, 1] * 8, ("even", "odd"))
    fit(TrainConfig(epochs=1, batch_size=8, patch_size=4, image_size=64), grey, grey, tmp_path / "grey", progress=False)
    Image.fromarray(images[0, 0]).save("grey.png")
    for method in ("lime", "all"):
        assert cli.main(["explain", "grey.png", "--run", "grey", "--samples", "400", "--method", method]) == 0
        with Image.open("explanation.png") as drawn:
            assert drawn.width > 500
    assert "grey.png: " in capsys.readouterr().out
    assert cli.main(["predict", "grey.png", "picture.png", "--run", "grey", "--engine", "eager"]) == 0
    service = app.Service(Predictor(load_run("grey"), "eager"), load_run("grey").model, samples=30)
    assert service.explain("picture.png").width > 300
