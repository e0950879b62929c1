"""Paddle's other modes: ``paddle.jit.to_static``, ``paddle.enable_static()``, float64 as the default type."""
import contextlib

import numpy as np
import paddle
import pytest
from networks import TINY, trained_like
from paddle import nn

import paddle_fasternet as pf
from paddle_fasternet.benchmark import count_macs
from paddle_fasternet.explain import grad_cam
from paddle_fasternet.native import library
from paddle_fasternet.training import use_native_kernels

to_static = pytest.mark.parametrize("full_graph", [False, True])  # Paddle's two tracers; the first is the default


@contextlib.contextmanager
def static_mode():
    paddle.enable_static()
    try:
        yield
    finally:
        paddle.disable_static()


@contextlib.contextmanager
def float64():
    paddle.set_default_dtype("float64")
    try:
        yield
    finally:
        paddle.set_default_dtype("float32")


def labels_of_every_kind():
    integers = np.array([0, 1, 4], np.int64)
    soft = np.full((3, 5), 0.2, np.float32)
    return {"[N]": integers, "[N, 1]": integers[:, None], "int32": integers.astype(np.int32), "soft": soft}


@to_static
@pytest.mark.parametrize("kind", labels_of_every_kind())
def test_loss_in_to_static(full_graph, kind):
    loss, labels = pf.LabelSmoothingCrossEntropy(0.2), paddle.to_tensor(labels_of_every_kind()[kind])
    graph = paddle.jit.to_static(pf.LabelSmoothingCrossEntropy(0.2), full_graph=full_graph)
    eager, traced = (paddle.to_tensor(np.arange(15, dtype=np.float32).reshape(3, 5) % 4, stop_gradient=False)
                     for _ in range(2))
    values = [function(x, labels) for function, x in ((loss, eager), (graph, traced))]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-6)
    for value in values:
        value.backward()
    np.testing.assert_allclose(traced.grad.numpy(), eager.grad.numpy(), atol=1e-6)


def test_loss_within_a_traced_function():
    graph = paddle.jit.to_static(lambda x, y: pf.LabelSmoothingCrossEntropy()(x, y) * 2)
    x, y = paddle.randn([4, 5]), paddle.to_tensor([0, 1, 2, 3])
    assert graph(x, y).item() == pytest.approx(2 * pf.LabelSmoothingCrossEntropy()(x, y).item(), rel=1e-5)


@to_static
@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_network_in_to_static(full_graph, kernels, training):
    """The traced network computes what Paddle's layers compute, and passes gradients to every weight."""
    plain, traced = trained_like(drop_path_rate=0.0), trained_like(drop_path_rate=0.0)
    if kernels:
        if library.load_library()[0] is None:
            pytest.skip(library.load_library()[1])
        use_native_kernels(traced)
    for model in (plain, traced):
        model.train() if training else model.eval()
    x = paddle.to_tensor(np.random.default_rng(0).normal(0, 1, (3, 3, 16, 16)).astype(np.float32))
    wanted, found = plain(x), paddle.jit.to_static(traced, full_graph=full_graph)(x)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-4)
    if not training:  # Paddle keeps no backward graph then
        return
    for output in (wanted, found):
        output.square().sum().backward()
    for (name, mine), theirs in zip(plain.named_parameters(), traced.parameters()):
        if not mine.stop_gradient:
            scale = np.abs(mine.grad.numpy()).max()
            np.testing.assert_allclose(theirs.grad.numpy(), mine.grad.numpy(), atol=2e-3 * scale, err_msg=name)


@to_static
def test_drop_path_in_to_static(full_graph):
    layer = pf.DropPath(0.5)
    layer.train()
    out = paddle.jit.to_static(layer, full_graph=full_graph)(paddle.ones([64, 3]))
    assert set(np.unique(out.numpy())) == {0.0, 2.0}


SMALL = {**TINY, "num_classes": 3}


@pytest.mark.parametrize(("call", "name"), [
    (lambda net, sets, out: pf.FasterNet(**SMALL), "FasterNet"),
    (lambda net, sets, out: pf.create_model("fasternet_t0", pretrained="cifar10"), "FasterNet"),
    (lambda net, sets, out: net(paddle.static.data("x", [1, 3, 32, 32])), "FasterNet"),
    (lambda net, sets, out: pf.Predictor(net, image_size=32), "Predictor"),
    (lambda net, sets, out: pf.evaluate(net, sets), "evaluate"),
    (lambda net, sets, out: pf.fit(pf.TrainConfig(), sets, sets, out), "fit"),
    (lambda net, sets, out: pf.load_run(out), "load_run"),
    (lambda net, sets, out: pf.load_weights(net, out), "load_weights"),
    (lambda net, sets, out: pf.export(net, out, image_size=32), "export"),
    (lambda net, sets, out: pf.fuse_conv_bn(net), "fuse_conv_bn"),
    (lambda net, sets, out: pf.replace_conv(net), "replace_conv"),
    (lambda net, sets, out: grad_cam(net, np.zeros((1, 3, 32, 32), np.float32)), "forward pass"),
    (lambda net, sets, out: count_macs(net, 32), "forward pass"),
])
def test_static_mode_is_refused(call, name, tmp_path):
    net = pf.FasterNet(**SMALL)
    sets = pf.ImageSet(np.zeros((2, 3, 32, 32), np.uint8), [0, 1], ("a", "b", "c"))
    with static_mode(), pytest.raises(RuntimeError, match=rf"{name} needs .* call paddle.disable_static\(\) first"):
        call(net, sets, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_layers_and_loss_in_a_static_program():
    with static_mode(), paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
        x = paddle.static.data("x", [4, 8, 6, 6])
        y = paddle.static.data("y", [4], "int64")
        maps = pf.drop_path(pf.PConv(8)(x), 0.5, training=True)
        loss = pf.LabelSmoothingCrossEntropy()(maps.mean([2, 3]), y)
        executor = paddle.static.Executor(paddle.CPUPlace())
        executor.run(paddle.static.default_startup_program())
        value, = executor.run(feed={"x": np.ones((4, 8, 6, 6), np.float32), "y": np.arange(4)}, fetch_list=[loss])
    assert np.isfinite(value).all()


def test_float64_as_the_default_type(tmp_path):
    """What is trained, read or deployed is float32; a new network is float64 and takes float32 images."""
    images = pf.ImageSet(np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8), [0, 1] * 4, ("a", "b"))
    config = pf.TrainConfig(epochs=1, batch_size=4, patch_size=4, amp="off")
    pf.fit(config, images, images, tmp_path / "wanted", progress=False)
    wanted = pf.load_run(tmp_path / "wanted")
    with float64():
        pf.fit(config, images, images, tmp_path / "found", progress=False)
        found = pf.load_run(tmp_path / "found")
        for name, value in wanted.model.state_dict().items():
            np.testing.assert_array_equal(found.model.state_dict()[name].numpy(), value.numpy(), err_msg=name)
        np.testing.assert_allclose(pf.Predictor(found, "eager")(images), pf.Predictor(wanted, "eager")(images),
                                   atol=1e-6)
        assert paddle.get_default_dtype() == "float64"
        net = pf.FasterNet(**SMALL)
        net.eval()
        assert net.head.weight.dtype == paddle.float64
        x = np.random.default_rng(1).normal(0, 1, (2, 3, 32, 32))
        exact, cast = net(paddle.to_tensor(x)), net(paddle.to_tensor(x.astype(np.float32)))
        np.testing.assert_allclose(cast.numpy(), exact.numpy(), atol=1e-6)
        pf.save_weights(net, tmp_path / "net.pdparams")
        pf.load_weights(pf.FasterNet(**SMALL), tmp_path / "net.pdparams")
        pf.Predictor(net, "eager", image_size=32)(images)
        logits = paddle.to_tensor(x.mean((2, 3)))
        assert nn.functional.cross_entropy(logits, paddle.to_tensor([0, 1])).item() == pytest.approx(
            pf.LabelSmoothingCrossEntropy(0)(logits, paddle.to_tensor([0, 1])).item(), rel=1e-5)
