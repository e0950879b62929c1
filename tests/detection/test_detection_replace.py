import numpy as np
import paddle
import pytest

pytest.importorskip("ppdet", reason="needs PaddleDetection: make detection")

from ppdet.modeling.backbones.cspresnet import BasicBlock, CSPResStage  # noqa: E402

from paddle_fasternet import PConv, replace_conv  # noqa: E402
from paddle_fasternet.benchmark import count_parameters  # noqa: E402
from paddle_fasternet.detection import build_detector  # noqa: E402


@pytest.mark.parametrize("part, swapped", [("backbone", 12), ("neck", 10)])
def test_pconv_in_pp_yoloe(part, swapped, batch):
    """The 3 x 3 convolutions of PP-YOLOE's own backbone, or of its neck, become PConv; the detector trains on."""
    detector = build_detector(3, "CSPResNet")
    before = count_parameters(detector)
    result = replace_conv(getattr(detector, part))
    assert len(result.replaced) == swapped
    assert all(name.startswith("stem.") or "conv1.conv" in name for name, _, _ in result.replaced)
    assert {why.split(" that ")[0] for _, why in result.left} <= {"kernel 1 x 1", "stride 2", "input channels"}
    assert not any(isinstance(layer, PConv) for layer in getattr(detector, part).sublayers())  # work on a copy
    setattr(detector, part, result.model)
    saved = sum(old - new for _, old, new in result.replaced)
    assert saved > 0 and count_parameters(detector) == before - saved
    optimizer = paddle.optimizer.AdamW(1e-3, parameters=detector.parameters())
    detector.train()
    losses = []
    for _ in range(4):
        loss = detector({**batch, "epoch_id": 0})["loss"]
        loss.backward()
        optimizer.step()
        missing = [name for name, each in detector.named_parameters() if not each.stop_gradient and each.grad is None]
        assert not missing
        optimizer.clear_grad()
        losses.append(float(loss))
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_pconv_in_one_csp_stage():
    stage = CSPResStage(BasicBlock, 32, 64, 2, 2, act="swish")
    result = replace_conv(stage)
    x = paddle.rand([1, 32, 16, 16])
    assert result.model(x).shape == stage(x).shape == [1, 64, 8, 8] and len(result.replaced) == 4
