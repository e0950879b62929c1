"""The native training kernels against Paddle's layers: outputs, gradients, running statistics."""
import copy
import os
import subprocess
import sys

import numpy as np
import paddle
import pytest
from networks import trained_like
from paddle import nn

from paddle_fasternet import FasterNet, TrainConfig, fit, replace_conv
from paddle_fasternet.layers import Conv, DWConv, GConv, PConv
from paddle_fasternet.native.library import load_library
from paddle_fasternet.training import native, use_native_kernels
from paddle_fasternet.training.optimizers import Muon

# every way in which sizes can be awkward: channels that fill no vector, ragged borders, one pixel, no block
NETWORKS = [
    ({}, (6, 16, 16)),
    ({"act_layer": nn.GELU, "embed_dim": 40, "depths": (1, 2), "patch_size": 2}, (5, 19, 14)),
    ({"mixer": "dwconv", "act_layer": nn.GELU}, (6, 17, 16)),
    ({"mixer": "conv"}, (6, 16, 16)),
    ({"mixer": "gconv"}, (6, 16, 16)),
    ({"mixer": lambda dim: GConv(dim, kernel_size=5, groups=dim // 4), "embed_dim": 20}, (6, 16, 16)),
    ({"mixer": "identity"}, (6, 16, 16)),
    ({"n_div": 8}, (3, 16, 16)),
    ({"embed_dim": 12, "n_div": 3}, (3, 23, 23)),
    ({"mixer": lambda dim: PConv(dim, kernel_size=5)}, (4, 24, 20)),
    ({"mixer": lambda dim: PConv(dim, kernel_size=1)}, (4, 16, 16)),
    ({"mixer": lambda dim: DWConv(dim, kernel_size=5)}, (4, 24, 20)),
    ({"mixer": lambda dim: Conv(dim, kernel_size=3) if dim == 8 else nn.Identity()}, (4, 16, 16)),
    ({"layer_scale_init_value": 0.3, "act_layer": nn.GELU}, (6, 16, 16)),
    ({"drop_path_rate": 0.5, "depths": (2, 2)}, (12, 16, 16)),
    ({"embed_act": True, "act_layer": nn.GELU}, (6, 16, 16)),
    ({"patch_size": 1, "merge_sizes": (1,)}, (4, 7, 5)),
    ({"merge_sizes": (3,)}, (4, 30, 29)),
    ({"embed_overlap": 1}, (4, 19, 17)),
    ({"embed_overlap": 1, "patch_size": 1, "merge_sizes": (1,), "embed_act": True}, (4, 7, 5)),
    ({"embed_overlap": 2, "patch_size": 2, "embed_dim": 24}, (5, 12, 14)),
    ({"depths": (0, 1)}, (6, 16, 16)),
    ({"depths": (2,), "merge_sizes": (), "patch_size": 4}, (6, 4, 4)),
    ({"in_channels": 1, "mlp_ratio": 1.5}, (6, 16, 16)),
    ({"act_layer": nn.Identity}, (6, 16, 16)),
    ({"embed_dim": 72, "depths": (1, 1)}, (9, 8, 8)),
]
KINDS = sorted(native.kinds())
pytestmark = pytest.mark.skipif(not KINDS, reason=load_library()[1])


def build(arguments):
    """A small network whose every parameter matters, in training mode."""
    model = trained_like(1, **{"drop_path_rate": 0.0, **arguments})
    model.train()
    return model


def batch(size, channels=3):
    return paddle.to_tensor(np.random.RandomState(2).standard_normal((size[0], channels, *size[1:])).astype(np.float32))


def learn(model, x):
    """(output, {name: gradient}, {name: running statistic}) of a step from the same seed."""
    paddle.seed(3)
    model.train()
    out = model(x)
    towards = paddle.to_tensor(np.random.RandomState(4).standard_normal(out.shape).astype(np.float32))
    (out * towards).sum().backward()
    gradients = gradients_of(model)
    model.clear_gradients()
    return out.numpy(), gradients, {name: value.numpy() for name, value in model.state_dict().items() if "._" in name}


def gradients_of(model):
    return {name: parameter.grad.numpy() for name, parameter in model.named_parameters() if not parameter.stop_gradient}


def assert_same(ours, theirs, kind):
    assert ours.keys() == theirs.keys()
    largest = max(np.linalg.norm(value) for value in theirs.values())
    for name, value in theirs.items():
        # rounding is of the size of what was added: a bias before another BatchNorm has no gradient but that
        error = np.linalg.norm(ours[name] - value) / (np.linalg.norm(value) + 0.02 * largest)
        assert error < (0.4 if kind.startswith("bf16") else 3e-5), f"{name}: {error}"
    ours, theirs = (np.concatenate([all_of[name].ravel() for name in theirs]) for all_of in (ours, theirs))
    assert ours @ theirs > 0.98 * np.linalg.norm(ours) * np.linalg.norm(theirs)


def test_every_build_has_the_plain_kernels():
    assert "fp32-plain" in KINDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arguments, size", NETWORKS, ids=str)
def test_a_step_is_paddles(arguments, size, kind):
    model, x = build(arguments), batch(size, arguments.get("in_channels", 3))
    other = copy.deepcopy(model)
    other.kernels = native.NativeKernels(kind, threads=2)
    for _ in range(2):  # the second in the memory of the first
        theirs, ours = learn(model, x), learn(other, x)
        assert np.abs(ours[0] - theirs[0]).max() < (0.05 if kind.startswith("bf16") else 1e-5) * np.abs(theirs[0]).max()
        for a, b in zip(ours[1:], theirs[1:]):
            assert_same(a, b, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_the_images_and_change_nothing_but_rounding(kind):
    model, x = build({"drop_path_rate": 0.3}), batch((3, 16, 16))
    results = []
    for threads in (1, 2, 5):  # of five, two have no image
        model.kernels = native.NativeKernels(kind, threads)
        results.append(learn(copy.deepcopy(model), x))
    for result in results[1:]:
        assert_same(result[1], results[0][1], kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_variance_of_a_small_spread_beside_a_large_mean(kind, threads):
    model, x = build({}), batch((3, 16, 16)) * 0.01 + 3
    weight = np.round(model.patch_embed.proj.weight.numpy(), 1) + 0.5  # bfloat16 has only eight bits for it
    x, weight = (array.astype("float32") for array in (np.float64(x.numpy()), weight))
    model.patch_embed.proj.weight.set_value(weight)
    model.patch_embed.norm._variance.set_value(np.ones(len(weight), np.float32))
    model.kernels = native.NativeKernels(kind, threads)
    model.train()
    model(paddle.to_tensor(x))
    rounded = [_to_bfloat16(array) if kind.startswith("bf16") else array for array in (x, weight)]
    patches = rounded[0].reshape(3, 3, 4, 4, 4, 4).transpose(0, 2, 4, 1, 3, 5).reshape(48, -1).astype(np.float64)
    embedded = patches @ rounded[1].reshape(len(weight), -1).astype(np.float64).T
    assert np.abs(embedded.mean(0)).min() > 30 * embedded.std(0).max()
    found = (model.patch_embed.norm._variance.numpy() - 0.9) / 0.1
    assert np.allclose(found, embedded.var(0), rtol=0.01, atol=1e-6), found / embedded.var(0)


def _to_bfloat16(array):
    """Rounded to the nearest, ties to even."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def test_the_same_step_gives_the_same_bits():
    for kind in KINDS:
        model, x = build({"depths": (2, 2), "act_layer": nn.GELU}), batch((7, 20, 20))
        model.kernels = native.NativeKernels(kind, threads=2)
        start = {name: value.numpy() for name, value in model.state_dict().items()}
        first = learn(model, x)
        model.set_state_dict(start)
        learn(model, batch((2, 36, 24)))  # other sizes in between
        model.set_state_dict(start)
        second = learn(model, x)
        for a, b in zip(first[1:], second[1:]):
            assert all(np.array_equal(a[name], b[name]) for name in a)


def test_batches_may_be_open_at_the_same_time():
    model = use_native_kernels(build({}))
    one, two = batch((4, 16, 16)), batch((6, 24, 16))
    separate = [learn(model, x)[1] for x in (one, two)]
    losses = []
    for x in (one, two):
        out = model(x)
        towards = np.random.RandomState(4).standard_normal(out.shape).astype(np.float32)
        losses.append((out * paddle.to_tensor(towards)).sum())
    sum(losses).backward()
    gradients = gradients_of(model)
    assert_same(gradients, {name: separate[0][name] + separate[1][name] for name in gradients}, "fp32")


def test_a_forward_takes_the_memory_that_the_last_has_left():
    model = use_native_kernels(build({}))
    for follow in (True, True, False):
        out = model(batch((4, 16, 16)))
        if follow:
            out.sum().backward()
        del out
    assert len(model.kernels._idle) == 1


def test_frozen_weights_get_no_gradient():
    model = use_native_kernels(build({}))
    frozen = model.stages[0].blocks[0].mlp[0].weight
    frozen.stop_gradient = True
    model(batch((4, 16, 16))).sum().backward()
    assert frozen.grad is None and model.stages[0].blocks[0].mlp[3].weight.grad is not None


def test_elsewhere_paddles_layers_are_used(monkeypatch):
    model, x = build({}), batch((4, 16, 16))
    model.eval()
    expected = model(x).numpy()
    use_native_kernels(model)
    monkeypatch.setattr(native.NativeKernels, "__call__", lambda *_: pytest.fail("kernels called"))
    assert np.array_equal(model(x).numpy(), expected)  # in evaluation
    model.train()
    x.stop_gradient = False  # for a gradient at the input
    model(x).sum().backward()
    assert x.grad is not None
    x.stop_gradient = True
    model.stages[0].blocks[0].mlp[1].eval()  # with a norm that is frozen
    model(x)
    assert len(model.forward_features(x)) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", [(0, 1, 2), (1, 2), (0,)], ids=str)
def test_maps_of_all_stages_and_their_gradients(kind, wanted):
    model, x = build({"depths": (1, 0, 2), "merge_sizes": (2, 1), "embed_overlap": 1}), batch((3, 19, 14))
    other, results = copy.deepcopy(model), []
    other.kernels = native.NativeKernels(kind, threads=2)
    for network in (model, other):
        paddle.seed(3)
        maps = network.forward_features(x)
        loss = sum((maps[i] * paddle.cos(paddle.arange(maps[i].size).astype("float32")).reshape(maps[i].shape)).sum()
                   for i in wanted)
        loss.backward()
        results.append((maps, {name: np.zeros(1) if parameter.grad is None else parameter.grad.numpy()
                               for name, parameter in network.named_parameters()}))
    (theirs, their_gradients), (ours, our_gradients) = results
    assert [out.shape for out in ours] == [out.shape for out in theirs]
    for a, b in zip(ours, theirs):
        assert np.abs((a - b).numpy()).max() < (0.05 if kind.startswith("bf16") else 1e-5) * np.abs(b.numpy()).max()
    # of stages after the last wanted one, Paddle's layers have no gradient and the kernels have zeros
    assert not any(our_gradients[name].any() for name, value in their_gradients.items() if value.shape == (1,))
    found = [name for name, value in their_gradients.items() if value.shape != (1,)]
    assert_same({name: our_gradients[name] for name in found}, {name: their_gradients[name] for name in found}, kind)


def test_an_input_need_not_be_contiguous():
    model, x = use_native_kernels(build({})), batch((4, 32, 16))
    part = x[:, :, ::2].transpose([0, 1, 3, 2])
    assert_same(learn(copy.deepcopy(model), part)[1], learn(model, paddle.to_tensor(part.numpy()))[1], "fp32")


def test_a_stem_alone_may_overlap():
    model, x = build({}), batch((4, 16, 16))
    model.patch_embed.proj = nn.Conv2D(3, 8, 3, padding=1, bias_attr=False)
    other = use_native_kernels(copy.deepcopy(model))
    theirs, ours = learn(model, x), learn(other, x)
    assert np.abs(ours[0] - theirs[0]).max() < 1e-5 * np.abs(theirs[0]).max()
    assert_same(ours[1], theirs[1], "fp32")


def test_a_layer_in_two_places():
    model = build({"depths": (2,), "merge_sizes": ()})
    model.stages[0].blocks[1].mlp = model.stages[0].blocks[0].mlp
    with pytest.raises(ValueError, match="two places"):
        use_native_kernels(model)


def test_a_weight_in_two_places():
    model = build({"depths": (2,), "merge_sizes": ()})
    model.stages[0].blocks[1].mlp[0].weight = model.stages[0].blocks[0].mlp[0].weight
    with pytest.raises(ValueError, match="two places"):
        use_native_kernels(model)


@pytest.mark.parametrize("arguments, message", [
    ({"mixer": lambda dim: nn.Conv2D(dim, dim, 3, padding=1)}, "mixers pconv, dwconv"),
    ({"mixer": lambda dim: PConv(dim, kernel_size=4)}, "odd kernels"),
    ({"act_layer": nn.Hardswish}, "Hardswish"),
    ({"act_layer": lambda: nn.GELU(approximate=True)}, "GELU"),
    ({"norm_layer": lambda dim: nn.GroupNorm(2, dim)}, "BatchNorm2D"),
    ({"norm_layer": lambda dim: nn.BatchNorm2D(dim, momentum=0.1 * (dim % 3))}, "momentum"),
    ({"norm_layer": lambda dim: nn.BatchNorm2D(dim, use_global_stats=True)}, "running statistics"),
    ({"norm_layer": lambda dim: nn.BatchNorm2D(dim, weight_attr=False)}, "weight"),
], ids=str)
def test_networks_that_the_kernels_do_not_know(arguments, message):
    with pytest.raises(ValueError, match=message):
        use_native_kernels(build_any(arguments))


def test_a_replaced_mixer_or_pooling():
    model = build_any({"mixer": "conv"})
    with pytest.raises(ValueError, match="mixers pconv, dwconv"):
        use_native_kernels(replace_conv(model).model)
    model.avgpool_pre_head = nn.Identity()
    with pytest.raises(ValueError, match="avgpool_pre_head"):
        use_native_kernels(model)


def build_any(arguments):
    return FasterNet(**{"embed_dim": 8, "depths": (1, 1), "merge_sizes": (2,), "feature_dim": 16, **arguments})


def test_arguments():
    model = build({})
    with pytest.raises(TypeError, match="FasterNet"):
        use_native_kernels(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="did you mean 'bf16'"):
        use_native_kernels(model, "bf-16")
    with pytest.raises(ValueError, match="threads=0"):
        use_native_kernels(model, threads=0)
    with pytest.raises(ValueError, match="4 x 16 pixels"):
        use_native_kernels(build({"patch_size": 4}))(batch((4, 4, 16)))


def test_without_the_library_or_the_processor(monkeypatch):
    monkeypatch.setattr(native, "kinds", lambda: {"fp32-plain": 0})
    with pytest.raises(RuntimeError, match="AMX.*; use precision='fp32'"):
        use_native_kernels(build({}), "bf16")
    with pytest.raises(RuntimeError, match="precision='bf16' is not among the kernels here: fp32-plain"):
        native.NativeKernels("bf16")
    monkeypatch.setattr(native.native, "load_library", lambda: (None, "it was not built; install g++"))
    with pytest.raises(RuntimeError, match="install g\\+\\+"):
        use_native_kernels(build({}))


# ---- in a training run ----

def losses_of(config, images, folder):
    return np.array(fit(config, images, images[:20], folder, progress=False).record["train"]["loss"])


def test_fifty_steps_of_t0_stay_together(tiny_set, tmp_path):
    settings = dict(epochs=10, batch_size=8, lr=1e-3, augment="flip,shift=2", amp="off", drop_path_rate=0.1)
    paddles, ours = (losses_of(TrainConfig(kernels=kernels, **settings), tiny_set, tmp_path / kernels)
                     for kernels in ("paddle", "native"))
    assert len(ours) == 50 and np.abs(ours - paddles).max() < 1e-3


def test_muon_with_the_kernels_is_muon_without(tiny_set, tmp_path):
    settings = dict(epochs=1, batch_size=8, lr=1e-3, augment="flip", amp="off", optimizer="muon")
    paddles, ours = (losses_of(TrainConfig(kernels=kernels, **settings), tiny_set, tmp_path / kernels)
                     for kernels in ("paddle", "native"))
    assert np.abs(ours - paddles).max() < 1e-3


def test_bfloat16_learns_as_float32_does(tiny_set, tmp_path):
    settings = dict(epochs=4, batch_size=8, lr=1e-3, augment="none", kernels="native")
    exact = losses_of(TrainConfig(amp="off", **settings), tiny_set, tmp_path / "off")
    if any(kind.startswith("bf16") for kind in KINDS):
        rough = losses_of(TrainConfig(amp="bfloat16", **settings), tiny_set, tmp_path / "bf16")
        assert exact[-1] < 0.7 * exact[0] and np.abs(rough - exact).mean() < 0.05 * exact[0]
    else:
        with pytest.raises(ValueError, match="AMX"):
            losses_of(TrainConfig(amp="bfloat16", **settings), tiny_set, tmp_path / "bf16")


@pytest.mark.parametrize("kernels, message", [
    ("nativ", "did you mean 'native'"),
    ("native", "kernels='native': this network cannot be trained.*use kernels='auto'"),
])
def test_settings(tiny_set, tmp_path, monkeypatch, kernels, message):
    monkeypatch.setattr(native, "_LARGEST_KERNEL", 1)
    with pytest.raises(ValueError, match=message):
        fit(TrainConfig(epochs=1, batch_size=8, kernels=kernels), tiny_set, tiny_set, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_auto_takes_paddles_layers_where_the_kernels_cannot(tiny_set, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "_LARGEST_KERNEL", 1)
    fit(TrainConfig(epochs=1, batch_size=8), tiny_set, tiny_set, tmp_path, progress=False)


def run_python(code, **environment):
    clean = {name: value for name, value in os.environ.items() if name != "KMP_BLOCKTIME"}
    done = subprocess.run([sys.executable, "-c", code], env={**clean, **environment}, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


IN_A_PROCESS = """if True:
    import ctypes, os, numpy as np, paddle
    from pathlib import Path
    from paddle_fasternet import FasterNet
    from paddle_fasternet.training.native import use_native_kernels
    path = Path(paddle.__file__).parent / "libs" / "libiomp5.so"
    openmp = ctypes.CDLL(str(path)) if path.exists() else None
    paddle.seed(0)
    model, x = FasterNet(embed_dim=8, depths=(1, 1), merge_sizes=(2,), feature_dim=16), paddle.randn([4, 3, 16, 16])
    def threads():
        return len(os.listdir("/proc/self/task"))
    def step():
        loss = model(x).sum()
        loss.backward()
        model.clear_gradients()
        return float(loss)
"""


@pytest.mark.parametrize("environment, expected", [({}, "200"), ({"KMP_BLOCKTIME": "7"}, "7")])
def test_how_long_openmps_threads_wait_is_left_to_the_user(environment, expected):
    code = IN_A_PROCESS + """
    before = openmp and openmp.kmp_get_blocktime()
    use_native_kernels(model, threads=2)
    step()
    print(before, openmp and openmp.kmp_get_blocktime())"""
    assert run_python(code, **environment) in ([expected] * 2, ["None"] * 2)


def test_kernels_run_on_the_threads_of_paddles_layers():
    code = IN_A_PROCESS + """
    x = paddle.randn([16, 3, 128, 128])
    paddle.matmul(paddle.randn([700, 700]), paddle.randn([700, 700]))
    before = threads()
    use_native_kernels(model, threads=2)
    step()
    print(threads() - before if openmp else 0)"""
    assert run_python(code, OMP_NUM_THREADS="2") == ["0"]


def test_a_forked_child_can_train_too():
    code = IN_A_PROCESS + """
    use_native_kernels(model, threads=2)
    for norm in model.sublayers():
        if isinstance(norm, paddle.nn.BatchNorm2D):
            norm._momentum = 1.0
    expected = step()
    child = os.fork()
    if child == 0:
        os._exit(0 if step() == expected else 1)
    print(os.waitpid(child, 0)[1], step() == expected)"""
    assert run_python(code) == ["0", "True"]


# ---- Muon ----

@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_muon(kind):
    rng, results = np.random.RandomState(0), []
    shapes = [(20, 45), (1, 1), (33, 33), (200, 7), (12, 12, 3, 3), (10, 1, 1, 1)]
    values = [[rng.standard_normal(shape).astype(np.float32) for shape in shapes] for _ in range(3)]
    for kernels in (None, native.NativeKernels(kind, threads=2)):
        weights = [paddle.create_parameter(list(shape), "float32") for shape in shapes]
        other = paddle.create_parameter([3], "float32")
        optimizer = Muon(weights, paddle.optimizer.AdamW(0.1, parameters=[other]), 0.5, kernels)
        for weight, value in zip(weights, values[0]):
            weight.set_value(value)
        for gradients in values[1:]:
            for weight, gradient in zip(weights, gradients):
                weight.grad = paddle.to_tensor(gradient)
            optimizer.step()
        results.append([weight.numpy() for weight in weights] + [state.numpy() for state in optimizer._momenta])
    for ours, theirs in zip(results[1], results[0]):
        assert np.abs(ours - theirs).max() < (0.02 if kind.startswith("bf16") else 1e-4) * np.abs(theirs).max()
