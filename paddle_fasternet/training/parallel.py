"""Training in several processes: ``python -m paddle.distributed.launch --nproc_per_node 2 script.py``.

Gloo joins them on CPUs, NCCL on GPUs. All begin with the same weights, train on their parts of every batch, and average
the gradients before each update. (Not by ``paddle.DataParallel``: within its backward pass the loss of another process
aborts the interpreter, with no word about the cause.) BatchNorm normalises by a process's own part (Paddle's
SyncBatchNorm has no CPU kernel, and waits for all the others at every layer); the running statistics are averaged over
the processes before every evaluation and checkpoint. Process 0 alone writes.
"""
import contextlib
import os
import threading
import time

import numpy as np
import paddle
import paddle.distributed as dist

# Launch looks every two seconds for processes that have ended, and reports the first in order as the culprit: one that
# only lost its partner waits, so that it is not the one.
_SECONDS_FOR_LAUNCH = 5
_LOCKS = {}  # {process id: lock}: a forked child must not wait for a thread of its parent


@contextlib.contextmanager
def alone_in_this_process():
    """Refuse a second training within the block: both would draw from Paddle's one generator.

    Raises:
        RuntimeError: a training is going on in this process.
    """
    lock = _LOCKS.setdefault(os.getpid(), threading.Lock())
    if not lock.acquire(blocking=False):
        raise RuntimeError("another fit is going on in this process. All threads share Paddle's random generator, so "
                           "neither training would be reproducible; start each in a process of its own")
    try:
        yield
    finally:
        lock.release()


class Processes:
    """This process among those that launch has started; without launch, the only one.

    Attributes:
        size, rank: how many there are, and which one this is, from 0.
        first: whether this is the one that writes.
    """

    def __init__(self):
        self.size, self.rank = dist.get_world_size(), dist.get_rank()
        self.first = self.rank == 0
        if self.size > 1 and not dist.is_initialized():
            dist.init_parallel_env()

    def sum(self, values):
        """float64 array: the sum of ``values`` over the processes, in each of them."""
        values = np.asarray(values, np.float64)
        if self.size == 1:
            return values
        tensor = paddle.to_tensor(values)
        dist.all_reduce(tensor)
        return tensor.numpy()

    def any(self, *questions):
        """For each question whether any process says yes: the answer is the same in all of them."""
        return (self.sum(questions) > 0).tolist()

    def average_gradients(self, model):
        """Set the gradients of ``model`` to their means over the processes."""
        if self.size > 1:
            from paddle.distributed.fleet.utils.hybrid_parallel_util import fused_allreduce_gradients
            fused_allreduce_gradients(list(model.parameters()), None)

    @paddle.no_grad()
    def average(self, tensors):
        """Set each of ``tensors`` to its mean over the processes; one message for all."""
        if self.size == 1 or not tensors:
            return
        mean = self.sum(np.concatenate([tensor.numpy().ravel() for tensor in tensors])) / self.size
        ends = np.cumsum([tensor.size for tensor in tensors])
        for tensor, values in zip(tensors, np.split(mean, ends[:-1])):
            tensor.set_value(values.reshape(tensor.shape).astype(np.float32))

    @contextlib.contextmanager
    def losing_others(self):
        """Within the block the loss of another process raises ConnectionError, which says where to look."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or "gloo" not in str(error):
                raise
            time.sleep(_SECONDS_FOR_LAUNCH)
            raise ConnectionError(f"process {self.rank} of {self.size} lost the others: one has ended, and its error "
                                  "is in its own log (log/workerlog.N)") from error
