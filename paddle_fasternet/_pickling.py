"""Pickling of parameters and tensors where Paddle cannot do it: 2.6, not 3.x. Networks can be sent to workers then."""
import copyreg

import paddle
from paddle.base.framework import EagerParamBase


def _parameter(shape, dtype, stop_gradient, attributes, array):
    parameter = EagerParamBase(shape, getattr(paddle, dtype), **attributes)
    parameter.set_value(array)
    parameter.stop_gradient = stop_gradient
    return parameter


def _reduce_parameter(parameter):
    attributes = {key: value for key, value in vars(parameter).items() if not key.startswith("_")}
    return _parameter, (list(parameter.shape), _name(parameter), parameter.stop_gradient, attributes,
                        parameter.numpy())


def _reduce_tensor(tensor):
    return paddle.to_tensor, (tensor.numpy(), _name(tensor), None, tensor.stop_gradient)


def _name(tensor):
    return str(tensor.dtype).rpartition(".")[2]


if EagerParamBase.__reduce_ex__ is object.__reduce_ex__:
    copyreg.pickle(EagerParamBase, _reduce_parameter)
    copyreg.pickle(paddle.Tensor, _reduce_tensor)
