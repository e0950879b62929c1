"""BatchNorm's statistics after a few steps: exact means over training batches in place of the moving average.

At Paddle's momentum of 0.9 the first values still weigh 35 % after ten steps. A network that is evaluated then may do
far worse than in training.
"""
import contextlib

import numpy as np
import paddle
from paddle import nn

from .._modes import evaluating

SETTLED_AFTER = 50  # steps; the first values then weigh 0.9 ** 50 = 0.5 %
_BATCHES, _IMAGES = 8, 512  # an estimate takes at least so many of both, if an epoch has them

_NORMS = (nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm)


def moving_norms(model):
    """The BatchNorm layers of a network that update their statistics in the present mode."""
    return [layer for layer in model.sublayers() if isinstance(layer, _NORMS) and layer.training
            and not layer._use_global_stats]


def batches_needed(batch_size):
    """How many training batches an estimate takes."""
    return max(_BATCHES, -(-_IMAGES // batch_size))


@paddle.no_grad()
def estimate(model, batches, processes):
    """[(norm, mean, variance), ...]: exact statistics over ``batches`` (images, labels), with the present weights.

    Dropout and stochastic depth are off, as they are in the network that is evaluated. Nothing of ``model`` changes.
    """
    norms = moving_norms(model)
    before = [(norm._mean.numpy(), norm._variance.numpy(), norm._momentum) for norm in norms]
    sums, count = [np.zeros((2, norm._mean.size)) for norm in norms], 0
    with evaluating(model):
        for layer in (model, *norms):
            layer.training = True
        try:
            for images, _ in batches:
                for norm in norms:
                    norm._momentum = 0.0  # the statistics after a pass are those of the batch
                model(images)
                count += 1
                for total, norm in zip(sums, norms):
                    mean = norm._mean.numpy().astype(np.float64)
                    total += [mean, norm._variance.numpy() + mean**2]
        finally:
            for norm, (mean, variance, momentum) in zip(norms, before):
                norm._mean.set_value(mean)
                norm._variance.set_value(variance)
                norm._momentum = momentum
    found = []
    for total, norm in zip(sums, norms):
        mean, square = processes.sum(total) / (count * processes.size)
        found.append((norm, mean.astype(np.float32), np.maximum(square - mean**2, 0).astype(np.float32)))
    return found


@contextlib.contextmanager
def in_place(statistics):
    """Within the block the norms have these statistics, as ``estimate`` gave them."""
    before = [(norm, norm._mean.numpy(), norm._variance.numpy()) for norm, _, _ in statistics]
    try:
        _set(statistics)
        yield
    finally:
        _set(before)


def _set(statistics):
    for norm, mean, variance in statistics:
        norm._mean.set_value(mean)
        norm._variance.set_value(variance)
