"""Cross-entropy with label smoothing (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567)."""
import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ._check import check_number, check_type
from ._modes import traced


class LabelSmoothingCrossEntropy(nn.Layer):
    """Mean cross-entropy against ``(1 - smoothing) * target + smoothing / K``, weighted by class where wanted.

    Equal to ``paddle.nn.functional.cross_entropy(..., label_smoothing=smoothing)``, and besides takes labels [N, 1] as
    Paddle's data sets give them and soft labels as mixup makes them. Computed in float32 whatever the logits are.

    Args:
        smoothing: the share of the target spread evenly over all K classes, in [0, 1].
        weight: [K], positive: an image counts as much as its class, and the mean is the weighted one. An image with
            soft labels counts the mean of its classes' weights. None: all count 1.

    Shape: logits [N, K]; labels int [N] or [N, 1], or float [N, K]; the loss is a scalar.

    Raises:
        ValueError: the shapes do not fit, or (in eager mode on CPU) a label is outside 0..K-1.
    """

    def __init__(self, smoothing=0.1, weight=None):
        super().__init__()
        self.smoothing = check_number("smoothing", smoothing, low=0, high=1)
        if weight is None:
            self.weight = None
        else:
            values = np.asarray(weight, np.float32)
            if values.ndim != 1 or not (np.isfinite(values) & (values > 0)).all():
                raise ValueError(f"weight={weight!r} must hold a positive number for each class")
            self.register_buffer("weight", paddle.to_tensor(values), persistable=False)

    def forward(self, logits, labels):
        if paddle.in_dynamic_mode():
            check_type("logits", logits, paddle.Tensor)
            check_type("labels", labels, paddle.Tensor)
        if logits.ndim != 2:
            raise ValueError(f"logits of shape {list(logits.shape)} must be [N, K]")
        if self.weight is not None and self.weight.shape[0] != logits.shape[1]:
            raise ValueError(f"weight has {self.weight.shape[0]} values for logits of {logits.shape[1]} classes")
        if logits.dtype != paddle.float32:
            logits = logits.astype("float32")
        log_prob = F.log_softmax(logits, axis=-1)
        if labels.dtype in (paddle.int32, paddle.int64, paddle.uint8, paddle.int16, paddle.int8):
            target_log_prob = self._pick(log_prob, labels)
            counts = None if self.weight is None else paddle.gather(self.weight, labels.reshape([-1]).astype("int64"))
        elif list(labels.shape) == list(logits.shape):
            target_log_prob = (log_prob * labels.astype("float32")).sum(axis=-1)
            counts = None if self.weight is None else (labels.astype("float32") * self.weight).sum(axis=-1)
        else:
            raise ValueError(f"labels of shape {list(labels.shape)} and type {labels.dtype} do not fit logits of shape "
                             f"{list(logits.shape)}: give integers [N] or [N, 1], or floats [N, K]")
        losses = -((1 - self.smoothing) * target_log_prob + self.smoothing * log_prob.mean(axis=-1))
        return losses.mean() if counts is None else (counts * losses).sum() / counts.sum()

    @staticmethod
    def _pick(log_prob, labels):
        """log_prob [N, K] at integer labels [N] or [N, 1], giving [N]."""
        if labels.ndim not in (1, 2) or labels.shape[0] != log_prob.shape[0] or list(labels.shape[1:]) not in ([], [1]):
            raise ValueError(f"integer labels of shape {list(labels.shape)} must be [N] or [N, 1] with N = "
                             f"{log_prob.shape[0]}")
        index = labels.reshape([-1, 1]).astype("int64")
        if not traced() and labels.place.is_cpu_place():  # on a GPU the look would stop the stream
            low, high, classes = int(index.min()), int(index.max()), log_prob.shape[1]
            if low < 0 or high >= classes:
                raise ValueError(f"label {low if low < 0 else high} is outside the {classes} classes "
                                 f"(0..{classes - 1})")
        return paddle.take_along_axis(log_prob, index, axis=1).squeeze(1)

    def extra_repr(self):
        return f"smoothing={self.smoothing:g}"
