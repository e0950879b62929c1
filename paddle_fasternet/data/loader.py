"""Batches of an image set, prepared ahead by threads."""
import collections
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
from paddle.utils import dlpack

from .._check import check_number, check_sizes, check_type
from .augment import Augment
from .device import DeviceImages
from .device import augment as augment_on_device
from .images import central_square
from .imageset import ImageSet, check_images

_MOST_ON_DEVICE = 4 << 30  # bytes of pictures


class Loader:
    """Iterate over a set of images in batches of tensors ready for the network.

    Args:
        images: an ``ImageSet`` or an ``ImageFolder``, which needs an ``augment`` with an ``image_size``.
        batch_size: images in a batch.
        augment: an ``Augment``; None normalises with the set's own mean and standard deviation and nothing else.
        shuffle: a new order in every epoch.
        drop_last: leave out a last batch that is not full.
        seed: order and augmentation depend on (seed, epoch, batch) alone, so that any batch can be made again.
        workers: threads that prepare batches while the network computes; 0 prepares them in the calling thread.
        shard: (rank, size): of each batch only the images rank, rank + size, ..., for one of several processes. Then
            the batch size and the length are those of the whole, and augmentation depends on the rank, too.
        balanced: an epoch has as many images of every class as of any other, as nearly as its length allows: of a large
            class a part, another one in each epoch; of a small class some images several times. Needs ``shuffle``.

    Each ``iter(loader)`` is one epoch, counted from 0; ``epoch(e)`` gives that one without counting. A batch is
    (float32 [N, C, S, S], labels int64 [N] or float32 [N, K]), on Paddle's current device.

    On a device that is no CPU, pictures in memory are copied there once, as bytes, if they have at most 4 GB; those of
    a folder go up as bytes, batch by batch. The device augments them, equal to the CPU within rounding.
    """

    def __init__(self, images, batch_size=256, augment=None, shuffle=False, drop_last=False, seed=0, workers=2,
                 shard=(0, 1), balanced=False):
        check_images("images", images)
        batch_size = check_number("batch_size", batch_size, low=1, integer=True)
        if augment is not None:
            check_type("augment", augment, Augment)
        if drop_last and len(images) < batch_size:
            raise ValueError(f"batch_size={batch_size} is more than the {len(images)} images, and drop_last=True: "
                             "there would be no batch")
        self.images = images
        self.batch_size = batch_size
        self.augment = augment or Augment("none", None, images.mean, images.std)
        if balanced and not shuffle:
            raise ValueError("balanced=True needs shuffle=True")
        self.shuffle, self.balanced = shuffle, balanced
        self.drop_last = drop_last
        self.seed = check_number("seed", seed, low=0, high=2**63 - 1, integer=True)
        self.workers = check_number("workers", workers, low=0, integer=True)
        self.rank, self.size = _check_shard(shard, batch_size)
        self._device_images = None
        self._mirrored_first = np.random.default_rng(self.seed).random(len(images)) < 0.5
        self._next_epoch = 0

    def __len__(self):
        """Batches in an epoch."""
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self):
        epoch = self._next_epoch
        self._next_epoch += 1
        return self.epoch(epoch)

    def epoch(self, epoch, start=0):
        """Yield the batches of epoch ``epoch`` from number ``start`` on."""
        order = self._order(epoch)
        on_device = paddle.get_device() != "cpu"
        prepare, finish = (self._draw, self._augment) if on_device else (self._prepare, _to_tensors)
        if self.workers == 0:
            for batch in range(start, len(self)):
                yield finish(*prepare(order, epoch, batch))
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="loader") as pool:
            ahead = collections.deque()
            try:
                for batch in range(start, len(self)):
                    ahead.append(pool.submit(prepare, order, epoch, batch))
                    if len(ahead) > self.workers:
                        yield finish(*ahead.popleft().result())
                while ahead:
                    yield finish(*ahead.popleft().result())
            finally:  # also where the caller leaves the loop early
                for future in ahead:
                    future.cancel()

    def _order(self, epoch):
        """The images' numbers in the order of an epoch, [N]."""
        order = np.arange(len(self.images))
        if self.shuffle:
            rng = np.random.default_rng([self.seed, epoch])
            order = _balanced(self.images.labels, rng) if self.balanced else order
            rng.shuffle(order)
        return order

    def _choose(self, order, epoch, batch):
        """(indices of the images, generator, which images "altflip" mirrors) of a batch."""
        chosen = order[batch * self.batch_size:(batch + 1) * self.batch_size][self.rank::self.size]
        seed = [self.seed, epoch, batch + 1] + [self.rank] * (self.size > 1)
        return chosen, np.random.default_rng(seed), self._mirrored_first[chosen] ^ (epoch % 2 == 1)

    def _prepare(self, order, epoch, batch):
        """A batch made on the host, by one of the workers."""
        chosen, rng, mirrored = self._choose(order, epoch, batch)
        return self.augment.batch(self.images, chosen, rng, mirrored)

    def _draw(self, order, epoch, batch):
        """What the device needs of a batch: (indices of images that lie there, or pixels; ``Draws``; labels)."""
        chosen, rng, mirrored = self._choose(order, epoch, batch)
        if self._resident():
            pixels, crop, (height, width) = chosen, None, self.images.images.shape[2:]
        else:
            pixels, crop = self.augment.pixels(self.images, chosen, rng)
            height, width = pixels.shape[2:]
        draws = self.augment.draws(len(chosen), height, width, rng, mirrored, crop)
        return pixels, draws, self.augment.targets(self.images.labels[chosen], draws.keep)

    def _augment(self, pixels, draws, labels):
        """A batch made on Paddle's device."""
        if self._resident():
            if self._device_images is None:
                self._device_images = DeviceImages(self.images.images)
            x = self._device_images[pixels]
        else:
            x = paddle.to_tensor(pixels).astype("float32")
        if draws.crops is None:
            x = central_square(x)
        size = self.augment.image_size or x.shape[-1]
        return augment_on_device(x, draws, self.augment.mean, self.augment.std, size), paddle.to_tensor(labels)

    def _resident(self):
        """Whether the pictures lie on the device."""
        return isinstance(self.images, ImageSet) and self.images.images.nbytes <= _MOST_ON_DEVICE


def _balanced(labels, rng):
    """[N] indices with each class of ``labels`` [N] equally often, and each image as often as others of its class.

    Both are to one.
    """
    classes = np.unique(labels)
    counts = np.full(len(classes), len(labels) // len(classes))
    counts[rng.permutation(len(classes))[:len(labels) % len(classes)]] += 1
    chosen = []
    for label, count in zip(classes, counts):
        own = np.flatnonzero(labels == label)
        rounds, rest = divmod(count, len(own))
        chosen += [own] * rounds + [rng.permutation(own)[:rest]]
    return np.concatenate(chosen)


def _check_shard(shard, batch_size):
    """(rank, size) as ints."""
    rank_and_size = check_sizes("shard", shard, low=0)
    if len(rank_and_size) != 2 or rank_and_size[0] >= rank_and_size[1]:
        raise ValueError(f"shard={shard!r} must be (rank, size) with 0 <= rank < size")
    rank, size = rank_and_size
    if size > 1 and (batch_size % size or batch_size < 2 * size):
        raise ValueError(f"batch_size={batch_size} must be a multiple of the {size} processes, with at least 2 images "
                         "for each")
    return rank, size


def _to_tensors(images, labels):
    """A batch on the CPU, which shares the array's memory: at 224 pixels a copy would take as long as the rest."""
    return dlpack.from_dlpack(images.__dlpack__()), paddle.to_tensor(labels)
