import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

import paddle_fasternet as pf
from paddle_fasternet.weights import CIFAR10_RUN

pytest.importorskip("ppdet", reason="needs PaddleDetection: make detection")

from ppdet.core import workspace  # noqa: E402
from ppdet.utils.checkpoint import load_pretrain_weight  # noqa: E402

from paddle_fasternet.detection import FasterNet, build_detector, list_backbones  # noqa: E402
from paddle_fasternet.detection.__main__ import main  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def picture(side=64):
    return paddle.to_tensor(np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32))


def test_a_network_says_channels_and_strides_of_its_maps():
    model = pf.create_model("fasternet_t0", patch_size=2, merge_sizes=(1, 2, 2))
    assert model.out_channels == (40, 80, 160, 320) and model.strides == (2, 2, 4, 8)
    maps = model.forward_features(picture())
    assert [(each.shape[1], 64 // each.shape[2]) for each in maps] == list(zip(model.out_channels, model.strides))


def test_yaml_of_anyone_has_the_backbone(tmp_path):
    (tmp_path / "own.yml").write_text("norm_type: sync_bn\nFasterNet:\n  model: fasternet_t1\n  return_idx: [0, 2]\n")
    workspace.load_config(str(tmp_path / "own.yml"))
    try:
        backbone = workspace.create("FasterNet")
    finally:
        workspace.global_config["FasterNet"].update(model="fasternet_t0", return_idx=(1, 2, 3))
        del workspace.global_config["norm_type"]
    assert [(shape.channels, shape.stride) for shape in backbone.out_shape] == [(64, 4), (256, 16)]
    assert [each.shape[1:] for each in backbone({"image": picture()})] == [[64, 16, 16], [256, 4, 4]]


def test_weights_of_a_classifier_load_and_compute_the_same(tmp_path):
    model = pf.create_model("fasternet_t0", num_classes=7)
    pf.save_weights(model, tmp_path / "t0.pdparams")
    backbone = FasterNet("fasternet_t0", str(tmp_path / "t0.pdparams"), return_idx=[0, 1, 2, 3])
    model.eval()
    backbone.eval()
    for ours, theirs in zip(backbone({"image": picture()}), model.forward_features(picture())):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    with pytest.raises(ValueError, match="does not fit the model"):
        FasterNet("fasternet_t1", str(tmp_path / "t0.pdparams"))


def test_shipped_kernels_framed_by_zeros_compute_the_same():
    """The shipped network has strides 2, 2, 4, 8; with its strides the wider kernels give its own maps."""
    shipped, backbone = pf.create_model("fasternet_t0", "cifar10"), FasterNet(pretrained="cifar10")
    x = picture()
    stem = backbone.patch_embed.proj
    assert stem.weight.shape == [40, 3, 6, 6] and stem._stride == [4, 4]
    np.testing.assert_allclose(  # every second pixel of the stem's map, away from the edge
        stem(x).numpy()[:, :, 1:-1, 1:-1], paddle.nn.functional.conv2d(
            x, shipped.patch_embed.proj.weight, stride=4, padding=0).numpy()[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-5)
    merge = backbone.stages[1].reduction
    y = paddle.to_tensor(np.random.default_rng(0).standard_normal((1, 40, 8, 8)).astype(np.float32))
    np.testing.assert_allclose(merge(y).numpy(), paddle.nn.functional.conv2d(
        y, shipped.stages[1].reduction.weight, stride=2, padding=1).numpy(), rtol=1e-4, atol=1e-5)
    assert [shape.stride for shape in backbone.out_shape] == [8, 16, 32]


def test_frozen_stages_keep_weights_and_statistics():
    backbone = FasterNet(freeze_at=1, out_norm=True)
    backbone.train()
    before = {name: tensor.numpy().copy() for name, tensor in backbone.state_dict().items()}
    optimizer = paddle.optimizer.SGD(0.1, parameters=backbone.parameters())
    sum(each.square().mean() for each in backbone({"image": picture()})).backward()
    optimizer.step()
    changed = {name for name, tensor in backbone.state_dict().items() if (tensor.numpy() != before[name]).any()}
    frozen = ("patch_embed.", "stages.0.", "stages.1.", "stages.2.")
    assert changed and not any(name.startswith(frozen) for name in changed)
    assert {"norm2.weight", "norm4.weight", "norm6.weight", "stages.3.norm._mean"} <= changed
    still = FasterNet(freeze_norm=True)
    assert all(layer._use_global_stats and layer.weight.stop_gradient for layer in still.sublayers()
               if isinstance(layer, paddle.nn.BatchNorm2D))


@pytest.mark.parametrize("arguments, message", [
    ({"model": "fasternet_x"}, "model='fasternet_x' is not known"),
    ({"return_idx": [2, 1]}, "ascending stages"),
    ({"return_idx": [4]}, "ascending stages"),
    ({"norm_type": "gn"}, "norm_type='gn'"),
    ({"freeze_at": 4}, "freeze_at=4"),
    ({"model": "fasternet_s", "pretrained": "cifar10"}, "shipped for fasternet_t0 alone"),
])
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        FasterNet(**arguments)


def test_paddledetections_loader_takes_a_classifiers_file(tmp_path):
    """``pretrain_weights`` of a YAML, as the configs have it."""
    model = pf.create_model("fasternet_t0", num_classes=7)
    paddle.save(model.state_dict(), str(tmp_path / "t0.pdparams"))
    detector = build_detector(3)
    load_pretrain_weight(detector, str(tmp_path / "t0.pdparams"))
    for name, tensor in detector.backbone.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), model.state_dict()[name].numpy())


@pytest.mark.parametrize("backbone", ["fasternet_t0", "ResNet18", "MobileNetV3", "CSPResNet"])
def test_every_kind_of_backbone_trains(backbone, batch):
    assert backbone in list_backbones()
    model = build_detector(3, backbone)
    model.train()
    losses = model({**batch, "epoch_id": 1})
    losses["loss"].backward()
    missing = [name for name, each in model.named_parameters() if not each.stop_gradient and each.grad is None]
    assert not missing and np.isfinite(float(losses["loss"]))


def test_the_shipped_weights_are_in_a_detector():
    detector = build_detector(3, pretrained="cifar10")
    arrays = pf.weights.read_weights(CIFAR10_RUN / "final_model.pdparams")
    name = "stages.4.blocks.7.mlp.0.weight"
    np.testing.assert_array_equal(detector.backbone.state_dict()[name].numpy(), arrays[name])


def run(*arguments, **environment):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, **environment})


def test_without_paddledetection_the_import_says_what_to_install():
    code = "import sys; sys.modules['ppdet'] = None; import paddle_fasternet.detection"
    result = run("-c", code)
    assert result.returncode != 0 and "pip install --no-deps paddledet==2.6.0" in result.stderr


def test_a_script_of_paddledetection_knows_fasternet(tmp_path):
    (tmp_path / "near.py").write_text("value = 3\n")
    (tmp_path / "train.py").write_text("import sys\nfrom near import value\nfrom ppdet.core.workspace import create\n"
                                       "print(type(create('FasterNet')).__name__, value, sys.argv[1:])\n")
    result = run("-m", "paddle_fasternet.detection", str(tmp_path / "train.py"), "-c", "a.yml")
    assert result.stdout == "FasterNet 3 ['-c', 'a.yml']\n", result.stderr
    with pytest.raises(SystemExit, match="usage: python -m paddle_fasternet.detection SCRIPT"):
        main([str(tmp_path / "none.py")])


def test_cut_pictures_stay_unreadable_beside_paddledetection():
    from PIL import ImageFile
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
