"""What turns gradients into updates: the learning rate's course, AdamW, Muon, and averaged weights."""
import contextlib
import math

import paddle
from paddle import nn

# Newton-Schulz iteration of Jordan et al.: x -> a x + b x^3 + c x^5 on the singular values. Three times, as in their
# CIFAR-10 training, takes those from 0.03 to 1 to between 0.6 and 1.2; five times, as elsewhere, would take longer than
# a step's other half on a CPU.
_COEFFICIENTS, _ITERATIONS = (3.4445, -4.7750, 2.0315), 3
_MOMENTUM = 0.95
# AdamW's typical update has this root mean square at a learning rate of 1.
_SIZE_OF_ADAMW = 0.2
_STEPS_BETWEEN_AVERAGES = 4


def learning_rate(config, step, steps_per_epoch):
    """Linear warm-up, then a cosine or a line to zero; ``step`` counts from 0, the last step's rate is above zero."""
    total, warmup = config.epochs * steps_per_epoch, config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(total - warmup, 1)
    return config.lr * (1 - done if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done)))


def build_optimizer(model, config):
    """The optimizer of ``config`` for the network's parameters. Norms, biases and layer scale are not decayed.

    A parameter's ``optimize_attr["learning_rate"]`` is a factor on its learning rate.
    """
    matrices = _matrices(model) if config.optimizer == "muon" else []
    chosen = {parameter.name for parameter in matrices}
    others = [parameter for parameter in model.parameters() if parameter.name not in chosen]
    decayed = {parameter.name for parameter in others if parameter.ndim > 1}  # all the rest are vectors
    adamw = paddle.optimizer.AdamW(
        learning_rate=config.lr, parameters=others, weight_decay=float(config.weight_decay),
        apply_decay_param_fun=lambda name: name in decayed,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(config.clip_grad) if config.clip_grad else None)
    return Muon(matrices, adamw, config.weight_decay, model.kernels) if matrices else adamw


def _matrices(model):
    """The weights of the convolutions between the stem and the final pooling."""
    inner = [layer for name, layer in model.named_sublayers() if isinstance(layer, nn.Conv2D)
             and not name.startswith(("patch_embed.", "avgpool_pre_head."))]
    # a weight of two layers counts once; one that a weight norm computes is no parameter, what it is made of is
    weights = {id(weight): weight for layer in inner if layer._groups == 1
               for weight in [layer._parameters.get("weight")] if weight is not None and not weight.stop_gradient}
    return list(weights.values())


class Muon:
    """Momentum whose updates are made orthogonal, for weights that are matrices; AdamW for all others.

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon: a convolution's weight counts as a matrix [out,
    in * k * k]; Nesterov momentum of 0.95; the update is the momentum with its singular values brought near 1. Liu et
    al. 2025, https://arxiv.org/abs/2502.16982: it is scaled to the size that AdamW's has, so that one learning rate and
    one decay serve both.

    Args:
        matrices: parameters to treat so.
        rest: a ``paddle.optimizer.AdamW`` for the other parameters, whose learning rate this takes.
        weight_decay: of the matrices.
        kernels: ``NativeKernels``, which do a step of the matrices many times as fast; None: by Paddle.
    """

    def __init__(self, matrices, rest, weight_decay, kernels=None):
        self._rest, self._weight_decay, self._kernels = rest, weight_decay, kernels
        self.matrices, self._momenta = list(matrices), [paddle.zeros_like(matrix) for matrix in matrices]
        # GradScaler divides the gradients of these
        self._parameter_list = [*matrices, *rest._parameter_list]
        self._param_groups = self._parameter_list

    @paddle.no_grad()
    def step(self):
        """Update all parameters from their gradients."""
        overflow = self._get_auxiliary_var("found_inf")
        if overflow is None or not bool(overflow):
            self._step_matrices(self.get_lr())
        self._rest.step()  # also then: it makes its state, and leaves the step out by itself

    def _step_matrices(self, rate):
        factors = [parameter.optimize_attr["learning_rate"] for parameter in self.matrices]
        for factor in sorted(set(factors)):
            matrices, momenta = zip(*(pair for pair, own in zip(zip(self.matrices, self._momenta), factors)
                                      if own == factor))
            if self._kernels is not None:
                self._kernels.muon(matrices, momenta, rate * factor, self._weight_decay, _MOMENTUM, _SIZE_OF_ADAMW,
                                   _COEFFICIENTS, _ITERATIONS)
                continue
            alike = {}  # matrices of one shape are one batch: a GPU waits for the calls, not for the products
            for parameter, momentum in zip(matrices, momenta):
                alike.setdefault(tuple(parameter.shape), []).append((parameter, momentum))
            for pairs in alike.values():
                self._update(*zip(*pairs), rate * factor)

    def _update(self, parameters, momenta, rate):
        """A step of matrices of one shape."""
        gradients = paddle.stack([parameter.grad for parameter in parameters]).flatten(2)  # [k, out, in * k * k]
        old = paddle.stack(momenta).flatten(2)
        new = _MOMENTUM * old + (1 - _MOMENTUM) * gradients
        update = (1 - _MOMENTUM) * gradients + _MOMENTUM * new
        _, rows, columns = update.shape
        update = orthogonal(update) if rows <= columns else orthogonal(update.transpose([0, 2, 1])).transpose([0, 2, 1])
        update = update * (rate * _SIZE_OF_ADAMW * math.sqrt(max(rows, columns)))
        for parameter, momentum, step, state in zip(parameters, momenta, update.unbind(0), new.unbind(0)):
            paddle.assign(state.reshape(parameter.shape), momentum)
            parameter.scale_(1 - rate * self._weight_decay)
            parameter.subtract_(step.reshape(parameter.shape))

    def _set_auxiliary_var(self, name, value):  # GradScaler's word on infinite gradients
        self._rest._set_auxiliary_var(name, value)

    def _get_auxiliary_var(self, name):
        return self._rest._get_auxiliary_var(name)

    def clear_grad(self):
        for parameter in self._parameter_list:
            parameter.clear_grad()

    def set_lr(self, rate):
        self._rest.set_lr(rate)

    def get_lr(self):
        return self._rest.get_lr()

    def state_dict(self):
        return {**self._rest.state_dict(), **dict(zip(map(_momentum_name, self.matrices), self._momenta))}

    def set_state_dict(self, state):
        state = dict(state)
        for parameter, momentum in zip(self.matrices, self._momenta):
            momentum.set_value(state.pop(_momentum_name(parameter)))
        self._rest.set_state_dict(state)


def _momentum_name(parameter):
    return f"{parameter.name}_muon"


def orthogonal(x):
    """Approximate nearest semi-orthogonal matrices: singular values near 1.

    x: float32 [..., rows, columns], rows <= columns.
    """
    a, b, c = _COEFFICIENTS
    linear = a * paddle.eye(x.shape[-2])
    x = x / (x.square().sum([-2, -1], keepdim=True).sqrt() + 1e-7)
    for _ in range(_ITERATIONS):
        square = paddle.matmul(x, x, transpose_y=True)
        x = paddle.matmul(linear + b * square + paddle.matmul(square, c * square), x)
    return x


def moments(model, optimizer):
    """(the optimizer's name, the name in a checkpoint, shape) of each tensor of its state.

    Paddle numbers parameters through a process's life, so its own names are not those of the next process.
    """
    matrices = {parameter.name for parameter in optimizer.matrices} if isinstance(optimizer, Muon) else set()
    found = []
    for name, parameter in model.named_parameters():
        if parameter.name in matrices:
            found.append((_momentum_name(parameter), f"optimizer/{name}/momentum", tuple(parameter.shape)))
        elif not parameter.stop_gradient:
            found += [(f"{parameter.name}_{moment}_0", f"optimizer/{name}/{moment}",
                       (1,) if moment.endswith("_acc") else tuple(parameter.shape))
                      for moment in ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")]
    return found


class WeightAverage:
    """Exponential moving average of a network's floating-point state, BatchNorm statistics included.

    The decay rises to ``decay`` as (1 + t) / (10 + t), so that the first weights are soon forgotten. The average takes
    in every fourth step's weights, at the fourth power of the decay: this costs half as much as AdamW's whole step.

    Attributes:
        state: {name: averaged tensor}.
    """

    def __init__(self, model, decay):
        self.decay = decay
        self._live = {name: tensor for name, tensor in model.state_dict().items() if "float" in str(tensor.dtype)}
        self.state = {name: tensor.clone().detach() for name, tensor in self._live.items()}

    @paddle.no_grad()
    def update(self, step):
        """Take in the weights after step number ``step``, counted from 0."""
        if step + 1 < _STEPS_BETWEEN_AVERAGES:  # a run may end here
            for name, tensor in self._live.items():
                paddle.assign(tensor, self.state[name])
        if (step + 1) % _STEPS_BETWEEN_AVERAGES:
            return
        decay = min(self.decay, (1 + step) / (10 + step)) ** _STEPS_BETWEEN_AVERAGES
        # a tensor: given a number, Paddle 3.3 keeps 112 bytes of every call for ever
        share = paddle.full([], 1 - decay, dtype="float32")
        for name, tensor in self._live.items():
            self.state[name].lerp_(tensor, share)

    @contextlib.contextmanager
    def in_place(self):
        """Within the block the network has the averaged weights."""
        trained = {name: tensor.clone().detach() for name, tensor in self._live.items()}
        try:
            for name, tensor in self._live.items():
                tensor.set_value(self.state[name])
            yield
        finally:
            for name, tensor in self._live.items():
                tensor.set_value(trained[name])
