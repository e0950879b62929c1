"""Images of every kind through predictors and explainers, of grey and of colour networks."""
import io

import numpy as np
import paddle
import pytest
from networks import telling_apart
from PIL import Image

from paddle_fasternet import LimeExplainer, Predictor, cli
from paddle_fasternet.explain import plot_explanations
from paddle_fasternet.explain.compare import METHODS, heatmaps

GREY = np.random.default_rng(0).integers(0, 256, (70, 80), np.uint8)


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def network(request):
    return telling_apart(in_channels=request.param, num_classes=5)


def kinds(folder):
    """One grey picture in many forms."""
    image = Image.fromarray(GREY)
    image.save(folder / "a.png")
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"[H, W]": GREY, "[H, W, 1]": GREY[..., None], "[H, W, 3]": np.dstack([GREY] * 3),
            "[H, W, 4]": np.dstack([GREY] * 3 + [np.full_like(GREY, 255)]), "tensor": paddle.to_tensor(GREY),
            "L": image, "palette": image.convert("P"), "RGBA": image.convert("RGBA"), "LA": image.convert("LA"),
            "I": Image.fromarray(GREY.astype(np.int32)), "F": Image.fromarray(GREY.astype(np.float32)),
            "path": folder / "a.png", "text": str(folder / "a.png"), "bytes": file.getvalue(), "file": file}


def test_predictors_take_all_kinds(network, tmp_path):
    predictor = Predictor(network, "eager", image_size=32)
    wanted, found = predictor(GREY), kinds(tmp_path)
    assert len(wanted) == 1
    for kind, image in found.items():
        np.testing.assert_allclose(predictor(image), wanted, atol=1e-6, err_msg=kind)
    np.testing.assert_allclose(predictor(list(found.values())), np.repeat(wanted, len(found), 0), atol=1e-6)
    for batch in (GREY[None, ..., None], np.dstack([GREY] * 3)[None], np.dstack([GREY] * 4)[None, ..., :3]):
        np.testing.assert_allclose(predictor(paddle.to_tensor(batch)), wanted, atol=1e-6)


def test_explainers_take_all_kinds(network, tmp_path):
    segments = np.arange(70 * 80).reshape(70, 80) // 1400
    options = {"num_samples": 20, "segments": segments, "progress": False}
    explainers = [LimeExplainer(Predictor(network, "eager", image_size=32)),
                  LimeExplainer(network, 120, 60, engine="eager")]
    for explainer in explainers:
        wanted = explainer.explain(GREY, **options)
        assert wanted.image.shape == (70, 80, 3) and np.ptp(wanted.probabilities, axis=0).max() > 1e-4
        for kind, image in kinds(tmp_path).items():
            np.testing.assert_allclose(explainer.explain(image, **options).coefficients, wanted.coefficients,
                                       atol=1e-5, err_msg=kind)


def test_gradients_of_all_kinds(network, tmp_path):
    square = GREY[:64, :64]
    found = heatmaps(network, Image.fromarray(square), 120, 60, methods=("gradcam", "smoothgrad", "intgrad"))
    assert all(heat.shape == (64, 64) and np.abs(heat).max() > 0 for heat in found.values())
    axes = plot_explanations(network, square, 120, 60, methods=("gradcam",))
    assert axes[1].get_title() == METHODS["gradcam"]


def test_messages_do_not_send_one_in_a_circle(network):
    """What an error proposes is then accepted."""
    predictor = Predictor(network, "eager", image_size=32)
    for shape, order in (((3, 40, 41), (1, 2, 0)), ((2, 3, 40, 41), (0, 2, 3, 1)), ((1, 40, 41), (1, 2, 0))):
        image = np.zeros(shape, np.uint8)
        with pytest.raises(ValueError, match=rf"images.transpose\({', '.join(map(str, order))}\)"):
            predictor(image)
        assert np.isfinite(predictor(image.transpose(order))).all()
    with pytest.raises(TypeError, match="must be uint8, 0..255; a normalised batch goes to .logits"):
        predictor(paddle.zeros([1, 32, 32, 3]))


def test_one_bad_image_among_many(network, tmp_path):
    predictor = Predictor(network, "eager", image_size=32, class_names=list("abcde"))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    images = [GREY] * 70
    for place in (0, 33, 69):
        images[place] = tmp_path / "bad.png"
    with pytest.raises(ValueError, match="bad.png is not an image that can be read"):
        predictor(images)
    with pytest.warns(UserWarning) as told:
        found = predictor(images, on_error="skip")
    assert [str(one.message).split(" is not")[0] for one in told] == [
        f"image {place} is left out: {tmp_path / 'bad.png'}" for place in (0, 33, 69)]
    assert np.flatnonzero(np.isnan(found).any(1)).tolist() == [0, 33, 69]
    np.testing.assert_allclose(found[[1, 34, 68]], np.repeat(predictor(GREY), 3, 0), atol=1e-6)
    seen = []
    answers = predictor.classify(images[:2], 2, on_error=lambda number, error: seen.append(number))
    assert seen == [0] and answers[0] == [] and len(answers[1]) == 2
    assert np.isnan(predictor([tmp_path / "bad.png"], on_error=lambda *_: None)).all()
    with pytest.raises(ValueError, match="on_error='ignore' is not known"):
        predictor(GREY, on_error="ignore")
    with pytest.raises(TypeError, match="image of type NoneType must be a path"):
        predictor([None], on_error="skip")


def test_predict_names_the_bad_file_and_answers_the_others(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many").mkdir()
    for name in ("a.png", "c.png"):
        Image.fromarray(GREY).save(tmp_path / "many" / name)
    (tmp_path / "many" / "b.png").write_bytes(b"no picture")
    run = ["--run", "cifar10", "--engine", "eager"]
    assert cli.main(["predict", "many", "missing.png", *run]) == 1
    captured = capsys.readouterr()
    assert [line.split(":")[0] for line in captured.out.splitlines()] == ["many/a.png", "many/c.png"]
    problems = [line for line in captured.err.splitlines() if line.startswith("paddle-fasternet predict: ")]
    assert len(problems) == 2 and "many/b.png is not an image" in problems[0] and "missing.png: there" in problems[1]
    assert cli.main(["predict", "many", "--out", "answers.csv", *run]) == 1
    assert "2 images classified" in capsys.readouterr().out
    assert (tmp_path / "answers.csv").read_text(encoding="utf-8-sig").splitlines()[2] == "many/b.png"
    assert cli.main(["predict", "many/a.png", *run]) == 0
