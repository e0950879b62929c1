"""Why PConv and a pointwise convolution can stand for a regular one.

Where the weight of trained 3 x 3 filters lies, and how well cheap operators imitate a trained convolution on the maps
that it sees. Paper: https://arxiv.org/abs/2303.03667, sections 3.2 and 4.
"""
import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from .._check import check_choice, check_number, check_type
from .._modes import evaluating
from .costs import OPERATORS, build_operator, cost


def filter_positions(model):
    """Where the weight of a network's regular 3 x 3 convolutions lies.

    A filter is what makes one output channel; the norm at each of its nine positions is taken over the input channels.

    Returns:
        {"filters": how many; "largest": [3, 3], at how many of them this position has the largest norm; "share":
        [3, 3], this position's part of the squared norm, the mean over filters}.

    Raises:
        ValueError: the network has no regular 3 x 3 convolution.
    """
    check_type("model", model, nn.Layer)
    energies = [np.square(layer.weight.numpy().astype(np.float64)).sum(1).reshape(-1, 9)  # [filters, 9]
                for layer in model.sublayers(include_self=True)
                if isinstance(layer, nn.Conv2D) and layer._groups == 1 and list(layer._kernel_size) == [3, 3]]
    if not energies:
        raise ValueError(f"model={type(model).__name__} has no regular 3 x 3 convolution")
    energies = np.concatenate(energies)
    shares = energies / np.maximum(energies.sum(1, keepdims=True), 1e-30)
    largest = np.bincount(energies.argmax(1), minlength=9)
    return {"filters": len(energies), "largest": largest.reshape(3, 3).tolist(),
            "share": shares.mean(0).reshape(3, 3).tolist()}


def layer_inputs(model, layer, batches):
    """What ``layer`` of a network in evaluation mode receives, [N, C, H, W], when the network sees the batches."""
    inputs = []
    handle = layer.register_forward_pre_hook(lambda _, x: inputs.append(x[0].numpy()))
    try:
        with evaluating(model), paddle.no_grad():
            for x in batches:
                model(x)
    finally:
        handle.remove()
    return np.concatenate(inputs)


def imitate(conv, train, test, operators=("pconv+pw", "dwconv+pw", "gconv+pw", "conv"), steps=1000, batch_size=64,
            lr=1e-2, n_div=4, groups=16, seed=0):
    """Train operators to do what a regular convolution does.

    Args:
        conv: a trained 3 x 3 convolution that keeps channels, height and width; its bias, if any, is left out.
        train, test: maps it sees, float32 [N, C, H, W].
        operators: names out of ``OPERATORS``; "conv" shows what the training itself leaves undone.
        steps, batch_size, lr: of Adam; the rate falls to zero along a cosine.
        n_div, groups: see ``cost``.
        seed: of initialisation and order.

    Returns:
        For each operator {"operator", "macs", "parameters", "error"}: the test maps' mean squared error over the
        variance of what they should be, 0 for a perfect imitation and 1 for one that knows the mean alone.
    """
    for name in operators:
        check_choice("operators", name, OPERATORS)
    steps = check_number("steps", steps, low=1, integer=True)
    batch_size = check_number("batch_size", batch_size, low=1, integer=True)
    lr = check_number("lr", lr, low=0)
    channels, height, width = train.shape[1:]
    check_type("conv", conv, nn.Conv2D)
    if list(conv.weight.shape) != [channels, channels, 3, 3] or list(conv._stride) != [1, 1]:
        raise ValueError(f"conv with a weight of {list(conv.weight.shape)} and stride {list(conv._stride)} must be a "
                         f"3 x 3 convolution of {channels} to {channels} channels with stride 1")
    scale = 1 / max(float(train.std()), 1e-12)
    rows = []
    with paddle.no_grad():
        wanted, wanted_test = (F.conv2d(paddle.to_tensor(x * scale), conv.weight, padding=1) for x in (train, test))
        unit = 1 / max(float(wanted.numpy().std()), 1e-12)
    for name in operators:
        paddle.seed(seed)
        rng = np.random.default_rng(seed)
        operator = build_operator(name, channels, n_div=n_div, groups=groups)
        rate = paddle.optimizer.lr.CosineAnnealingDecay(lr, steps)
        adam = paddle.optimizer.Adam(rate, parameters=operator.parameters())
        for _ in range(steps):
            chosen = rng.integers(0, len(train), batch_size)
            x, y = paddle.to_tensor(train[chosen] * scale), wanted[paddle.to_tensor(chosen)]
            loss = ((operator(x) - y) * unit).square().mean()
            loss.backward()
            adam.step()
            adam.clear_grad()
            rate.step()
        with paddle.no_grad():
            error = (operator(paddle.to_tensor(test * scale)) - wanted_test).square().mean()
        spent = cost(name, height, width, channels, n_div=n_div, groups=groups)
        rows.append({"operator": name, "macs": spent.macs, "parameters": spent.parameters,
                     "error": float(error) / max(float(wanted_test.numpy().var()), 1e-12)})
    return rows
