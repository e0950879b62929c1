import numpy as np
import paddle
import pytest
from networks import TINY

from paddle_fasternet import TrainConfig, create_model
from paddle_fasternet.training.optimizers import Muon, build_optimizer, moments, orthogonal

MUON = TrainConfig(optimizer="muon", lr=0.1, weight_decay=0.5, clip_grad=0)


def by_hand(matrix):
    """The polynomial of the iteration on the singular values, three times."""
    u, s, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    s /= np.sqrt((s**2).sum())
    for _ in range(3):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ np.diag(s) @ v


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_orthogonal(scale):
    matrix = np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32) * np.float32(scale)
    got = orthogonal(paddle.to_tensor(matrix)).numpy()
    np.testing.assert_allclose(got, by_hand(matrix), atol=1e-4)
    values = np.linalg.svd(got, compute_uv=False)
    assert 0.6 < values.min() and values.max() < 1.2
    assert (orthogonal(paddle.zeros([3, 4])).numpy() == 0).all()


@pytest.mark.parametrize("shape", [(3, 2, 2, 2), (6, 4, 1, 1), (4, 6, 1, 1), (5, 5)])
def test_two_steps_of_muon_by_hand(shape):
    rng = np.random.default_rng(0)
    weight = paddle.create_parameter(list(shape), "float32")
    expected, momentum = weight.numpy().reshape(shape[0], -1).astype(np.float64), 0.0
    bias = paddle.create_parameter([3], "float32", is_bias=True)
    optimizer = Muon([weight], paddle.optimizer.AdamW(0.1, parameters=[bias], weight_decay=0.0), 0.5)
    for rate in (0.1, 0.2):
        gradient = rng.standard_normal(shape).astype(np.float32)
        weight.grad, bias.grad = paddle.to_tensor(gradient), paddle.ones([3])
        optimizer.set_lr(rate)
        optimizer.step()
        optimizer.clear_grad()
        gradient = gradient.reshape(expected.shape)
        momentum = 0.95 * momentum + 0.05 * gradient
        update = by_hand(0.05 * gradient + 0.95 * momentum)
        expected = expected * (1 - 0.5 * rate) - rate * 0.2 * np.sqrt(max(expected.shape)) * update
        np.testing.assert_allclose(weight.numpy().reshape(expected.shape), expected, atol=1e-5)
    np.testing.assert_allclose(bias.numpy(), -0.3, atol=1e-5)  # Adam's step against a constant gradient is the rate
    assert weight.grad is None or (weight.grad.numpy() == 0).all()


def test_a_step_with_infinite_gradients_is_left_out():
    weight, bias = paddle.create_parameter([4, 6], "float32"), paddle.create_parameter([1], "float32", is_bias=True)
    optimizer = Muon([weight], paddle.optimizer.AdamW(0.1, parameters=[bias]), 0.5)
    before = weight.numpy().copy(), bias.numpy().copy()
    for overflow in (True, False):  # as GradScaler says it
        weight.grad, bias.grad = paddle.full([4, 6], np.inf if overflow else 1.0), paddle.ones([1])
        optimizer._set_auxiliary_var("found_inf", paddle.to_tensor([overflow]))
        optimizer.step()
        changed = [not np.array_equal(value.numpy(), old) for value, old in zip((weight, bias), before)]
        assert changed == [not overflow] * 2 and np.isfinite(weight.numpy()).all()
        assert any("moment1" in name for name in optimizer.state_dict())  # also before the first real step


def test_updates_have_the_size_of_adamws():
    weight = paddle.create_parameter([64, 128], "float32")
    before = weight.numpy().copy()
    weight.grad = paddle.randn([64, 128])
    bias = paddle.create_parameter([1], "float32", is_bias=True)
    optimizer = Muon([weight], paddle.optimizer.AdamW(1.0, parameters=[bias]), 0)
    optimizer.step()
    assert np.sqrt(np.square(weight.numpy() - before).mean()) == pytest.approx(0.2, rel=0.15)


@pytest.mark.parametrize("mixer", ["pconv", "dwconv"])
def test_muon_takes_the_matrices_of_the_stages(mixer):
    model = create_model("fasternet_t0", **TINY, num_classes=4, mixer=mixer)
    optimizer = build_optimizer(model, MUON)
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    taken = {names[parameter.name] for parameter in optimizer.matrices}
    inner = {f"stages.{stage}.blocks.0.mlp.{layer}.weight" for stage in (0, 2, 4, 6) for layer in (0, 3)}
    inner |= {f"stages.{stage}.reduction.weight" for stage in (1, 3, 5)}
    if mixer == "pconv":  # a depthwise convolution has no matrix: its channels do not meet
        inner |= {f"stages.{stage}.blocks.0.spatial_mixing.partial_conv3.weight" for stage in (0, 2, 4, 6)}
    assert taken == inner
    assert {parameter.name for parameter in optimizer._parameter_list} == {p.name for p in model.parameters()}
    assert {name for name, _, _ in moments(model, optimizer)} == _state_after_a_step(model, optimizer)


def _state_after_a_step(model, optimizer):
    model(paddle.randn([2, 3, 64, 64])).sum().backward()
    optimizer.step()
    optimizer.clear_grad()
    return set(optimizer.state_dict())


def test_muon_steps_a_shared_weight_once_and_leaves_what_a_weight_norm_computes():
    model = create_model("fasternet_t0", **TINY)
    first, second = (model.stages[i].blocks[0].mlp for i in (0, 2))
    plain = build_optimizer(model, MUON).matrices
    twin = paddle.nn.Conv2D(*first[0].weight.shape[1::-1], 1, bias_attr=False)
    twin.weight = first[0].weight
    model.extra = twin
    assert [weight.name for weight in build_optimizer(model, MUON).matrices] == [weight.name for weight in plain]
    paddle.nn.utils.weight_norm(second[0])
    optimizer = build_optimizer(model, MUON)
    own = {parameter.name for parameter in model.parameters()}
    assert {weight.name for weight in optimizer.matrices} < own and len(optimizer.matrices) == len(plain) - 1
    assert {weight.name for weight in optimizer._parameter_list} == own


def test_muons_state_goes_on_elsewhere():
    paddle.seed(0)
    first, second = (create_model("fasternet_t0", **TINY, num_classes=4) for _ in range(2))
    second.set_state_dict(first.state_dict())
    optimizers = [build_optimizer(model, MUON) for model in (first, second)]
    for optimizer, model in zip(optimizers, (first, second)):
        paddle.seed(1)
        _state_after_a_step(model, optimizer)
    ours = [{ours: theirs for theirs, ours, _ in moments(model, optimizer)}
            for model, optimizer in zip((first, second), optimizers)]
    assert set(ours[0]) == set(ours[1])
    state = optimizers[0].state_dict()
    for name, _ in ours[0].items():  # what the first has learnt, under the second's names
        state[ours[1][name]] = state[ours[0][name]] * (1 if name.endswith("_acc") else 2)
    optimizers[1].set_state_dict({theirs: state[theirs] for theirs in ours[1].values()})
    for name, theirs in ours[1].items():
        np.testing.assert_array_equal(optimizers[1].state_dict()[theirs].numpy(), state[theirs].numpy(), name)


def test_muon_learns(tiny_set):
    paddle.seed(0)
    model = create_model("fasternet_t0", **TINY, num_classes=4, init="he")
    optimizer = build_optimizer(model, TrainConfig(optimizer="muon", lr=0.01))
    x, y = paddle.to_tensor(tiny_set.images.astype(np.float32) / 128 - 1), paddle.to_tensor(tiny_set.labels)
    x, losses = paddle.nn.functional.interpolate(x, [64, 64]), []
    for _ in range(12):
        losses.append(paddle.nn.functional.cross_entropy(model(x), y))
        losses[-1].backward()
        optimizer.step()
        optimizer.clear_grad()
    assert losses[-1].item() < 0.1 * losses[0].item()
