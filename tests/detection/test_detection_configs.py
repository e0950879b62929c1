import contextlib
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddle_fasternet import model as networks
from paddle_fasternet.weights.pretrained import BASE_URL, PUBLISHED

pytest.importorskip("ppdet", reason="needs PaddleDetection: make detection")

from ppdet.core import workspace  # noqa: E402

import paddle_fasternet.detection  # noqa: E402, F401

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs" / "detection").glob("*.yml"))
AUTHORS = {"s": (2e-4, 0.15), "m": (1e-4, 0.2), "l": (1e-4, 0.3)}  # learning rate and drop path of their Mask R-CNN


@contextlib.contextmanager
def loaded(path):
    """The workspace with a config in it, as it was before afterwards."""
    whole = workspace.global_config
    before = {name: (value, dict(value) if isinstance(value, dict) else None) for name, value in whole.items()}
    try:
        yield workspace.load_config(str(path))
    finally:
        whole.clear()
        for name, (value, content) in before.items():
            if content is not None:
                value.clear()
                value.update(content)
            whole[name] = value


def boxes(architecture, side):
    """One training batch of two pictures as PaddleDetection's readers give it."""
    rng, batch = np.random.default_rng(0), {}
    found = [np.array([[8, 8, 60, 70], [50, 30, 120, 110]], np.float32), np.array([[30, 20, 100, 90]], np.float32)]
    labels = [np.array([[3], [1]]), np.array([[7]])]
    if architecture == "YOLOv3":
        batch["gt_bbox"] = paddle.to_tensor(np.stack([found[0], np.pad(found[1], ((0, 1), (0, 0)))]))
        batch["gt_class"] = paddle.to_tensor(np.array([[[3], [1]], [[7], [0]]], np.int64))
        batch["pad_gt_mask"] = paddle.to_tensor(np.array([[[1], [1]], [[1], [0]]], np.float32))
    else:
        batch["gt_bbox"] = [paddle.to_tensor(each) for each in found]
        batch["gt_class"] = [paddle.to_tensor(each.astype(np.int32)) for each in labels]
        batch["is_crowd"] = [paddle.zeros([len(each), 1], "int32") for each in found]
        batch["gt_poly"] = [[[np.array([x0, y0, x1, y0, x1, y1, x0, y1], np.float32)] for x0, y0, x1, y1 in each]
                            for each in found]
    return {**batch, "epoch_id": 0, "image": paddle.to_tensor(rng.standard_normal((2, 3, side, side), np.float32)),
            "im_shape": paddle.to_tensor([[float(side)] * 2] * 2), "scale_factor": paddle.ones([2, 2])}


def published(name):
    return BASE_URL + PUBLISHED[name][0]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools beside numpy 2
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_loads_and_makes_a_training_step(path, monkeypatch):
    name = next(each for each in networks.VARIANTS if f"_{each}_" in path.stem)
    if name not in ("fasternet_t0", "fasternet_t2"):  # smaller, of the same kinds of layers
        smaller = {**networks.VARIANTS[name], "depths": (1, 1, 1, 1), "embed_dim": 32}
        monkeypatch.setitem(networks.VARIANTS, name, smaller)
    with loaded(path) as config:
        config["BBoxAssigner"]["batch_size_per_im"] = 16  # regions with masks are what takes long
        config["eval_size"] = [128, 128]
        assert config["pretrain_weights"] == published(name)
        model = workspace.create(config["architecture"])
        rate = workspace.create("LearningRate")(10)
        optimizer = workspace.create("OptimizerBuilder")(rate, model)
    model.train()
    before = {key: tensor.numpy().copy() for key, tensor in model.backbone.state_dict().items()}
    batch = boxes(type(model).__name__, 128)
    for _ in range(2):  # the heads of PP-YOLOE begin with zeros, so the first step ends there
        rate.step()
        losses = model(batch)
        assert np.isfinite(float(losses["loss"]))
        losses["loss"].backward()
        optimizer.step()
        optimizer.clear_grad()
    changed = [key for key, tensor in model.backbone.state_dict().items() if (tensor.numpy() != before[key]).any()]
    assert {"patch_embed.proj.weight", "stages.6.blocks.0.mlp.0.weight"} <= set(changed)
    assert any(key.startswith("norm6.") for key in changed) == (type(model).__name__ != "YOLOv3")
    if type(model).__name__ == "MaskRCNN" and paddle.__version__.startswith("2."):
        return  # Paddle 2.6 refuses to paste no mask at all, and an untrained network may find nothing
    model.eval()
    with paddle.no_grad():
        assert model(batch)["bbox"].shape[1] == 6


@pytest.mark.parametrize("path", [path for path in CONFIGS if "_1x_" in path.name], ids=lambda path: path.stem)
def test_numbers_of_the_authors(path):
    rate, drop_path = AUTHORS[path.stem.split("fasternet_")[1][0]]
    with loaded(path) as config:
        assert config["LearningRate"]["base_lr"] == rate and config["FasterNet"]["drop_path_rate"] == drop_path
        assert config["epoch"] == 12 and config["OptimizerBuilder"]["optimizer"]["weight_decay"] == 1e-4
        assert config["TrainReader"]["batch_size"] == 2
        assert config["TrainReader"]["sample_transforms"][1]["RandomResize"]["target_size"] == [[800, 1333]]


def test_every_config_names_its_sources():
    assert len(CONFIGS) == 9
    for path in [*CONFIGS, *sorted((CONFIGS[0].parent / "_base_").glob("*.yml"))]:
        head = path.read_text(encoding="utf-8").split("\n_BASE_")[0][:700]
        assert head.startswith("# ") and any(
            source in head for source in ("PaddleDetection", "JierunChen", "COCO 2017")), path

