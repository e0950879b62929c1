"""Evaluation mode for a while."""
import contextlib


@contextlib.contextmanager
def evaluating(*networks):
    """Within the block the networks are in evaluation mode; then each of their layers is in the mode that it had."""
    modes = [(layer, layer.training) for network in networks for layer in network.sublayers(include_self=True)]
    training = [network for network in networks if network.training]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network in training:
            network.train()  # Paddle keeps a mode of its own, too
        for layer, mode in modes:
            layer.training = mode
