"""Augmentation as batched operations of Paddle on its device, with the draws of ``draws.py``.

Equal to ``augment.py``, which works by NumPy and OpenCV on the host, within rounding: OpenCV rounds the positions of a
rotation to 1/32 pixel. The pictures go to the device once, as bytes, and a batch costs its indices and a few numbers
for each picture instead of a float32 copy of every pixel.
"""
import numpy as np
import paddle
import paddle.nn.functional as F

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in images.py


class DeviceImages:
    """uint8 images on Paddle's current device.

    Args:
        images: uint8 array [N, C, H, W].
    """

    def __init__(self, images):
        self._shape = list(images.shape[1:])
        rows = images.reshape(len(images), -1)
        # four bytes to an integer: not every device gathers uint8
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
        self._rows = paddle.to_tensor(np.ascontiguousarray(rows).view(np.int32))

    def __getitem__(self, index):
        """float32 [n, C, H, W], 0..255, of the images that the integers ``index`` name."""
        rows = paddle.gather(self._rows, paddle.to_tensor(np.asarray(index, np.int32))).view("uint8")
        return rows[:, :int(np.prod(self._shape))].astype("float32").reshape([-1, *self._shape])


def augment(x, draws, mean, std, size):
    """Apply ``Draws``, normalise and resize.

    Args:
        x: float32 [n, C, H, W], 0..255, square unless crops are drawn.
        draws: ``Draws``.
        mean, std: of each channel, in 0..255, float32 [C, 1, 1].
        size: side of the output.

    Returns:
        float32 [n, C, size, size].
    """
    if draws.shift is not None:
        x = _flip_shift(x, draws.shift, draws.flipped)
    if draws.jitter is not None:
        x = _jitter(x, paddle.to_tensor(draws.jitter))
    mean, std = paddle.to_tensor(mean), paddle.to_tensor(std)
    x = (x - mean) * (1 / std)
    if draws.crops is not None or draws.angles is not None:
        _, _, height, width = x.shape
        crops = draws.crops if draws.crops is not None else np.tile([0, 0, height, width], (x.shape[0], 1))
        x = _crop(x, crops, size)
        if draws.angles is not None:
            x = _rotate(x, draws.angles, -mean / std, "nearest" if size >= 4 * max(height, width) else "bilinear")
    if draws.cutout is not None:
        x = x * (1 - _inside(draws.cutout, x.shape[2:]))
    if draws.keep is not None:
        following = paddle.roll(x, -1, 0)
        keep = paddle.to_tensor(draws.keep.reshape(-1, 1, 1, 1)) if draws.pasted is None else (
            1 - _inside(draws.pasted, x.shape[2:]))
        x = keep * x + (1 - keep) * following
    if x.shape[2:] != [size, size]:
        x = _crop(x, np.tile([0, 0, *x.shape[2:]], (x.shape[0], 1)), size)
    return x


def _flip_shift(x, shift, flipped):
    """Shift each image, its border reflected, then mirror the flipped ones."""
    _, _, height, width = x.shape
    dy, dx = paddle.to_tensor(shift).unsqueeze(-1)
    rows = _reflect(paddle.arange(height) + dy, height)  # [n, H]
    columns = _reflect(paddle.arange(width) + dx, width)
    columns = paddle.where(paddle.to_tensor(flipped).unsqueeze(-1), columns.flip(1), columns)
    position = rows.unsqueeze(2) * width + columns.unsqueeze(1)  # [n, H, W] in a channel's plane
    position = position.flatten(1).unsqueeze(1).expand([-1, x.shape[1], -1])
    return paddle.take_along_axis(x.flatten(2), position, 2).reshape(x.shape)


def _reflect(index, length):
    return (length - 1) - ((length - 1) - index.abs()).abs()


def _jitter(x, factors):
    """Brightness, then contrast about the image's mean grey, then saturation."""
    brightness, contrast, saturation = factors.reshape([3, -1, 1, 1, 1])
    if x.shape[1] == 3:
        gray = (x * paddle.to_tensor(_LUMA, "float32").reshape([1, 3, 1, 1])).sum(1, keepdim=True)
    else:
        gray = x.mean(1, keepdim=True)
    mean = gray.mean([2, 3], keepdim=True) * brightness
    x = (gray + (x - gray) * saturation) * (brightness * contrast) + mean * (1 - contrast)
    return x.clip(0, 255)


def _crop(x, crops, size):
    """Crops (top, left, height, width) of each image, resized: bilinear upwards, area average downwards.

    Both are products with one matrix for the rows and one for the columns of each image.
    """
    top, left, height, width = (paddle.to_tensor(part.astype(np.float32).reshape(-1, 1, 1)) for part in crops.T)
    shrinks = paddle.to_tensor((size < crops[:, 2:].min(1)).astype(np.float32).reshape(-1, 1, 1))
    rows = _weights(top, height, size, x.shape[2], shrinks)
    columns = _weights(left, width, size, x.shape[3], shrinks)
    return rows.unsqueeze(1) @ x @ columns.unsqueeze(1).transpose([0, 1, 3, 2])


def _weights(start, length, size, source, shrinks):
    """[n, size, source]: what each source pixel adds to each target pixel; start, length, shrinks: [n, 1, 1]."""
    target = paddle.arange(size, dtype="float32").reshape([1, -1, 1])
    pixel = paddle.arange(source, dtype="float32").reshape([1, 1, -1]) - start
    step = length / size
    # between the two nearest pixels, those at the edge repeated
    centre = paddle.minimum(((target + 0.5) * step - 0.5).clip(min=0), length - 1)
    linear = (1 - (pixel - centre).abs()).clip(min=0)
    # the overlap of the target pixel with each source pixel
    low = target * step
    overlap = (paddle.minimum(low + step, pixel + 1) - paddle.maximum(low, pixel)).clip(min=0) / step
    within = ((pixel >= 0) & (pixel < length)).astype("float32")
    return within * (shrinks * overlap + (1 - shrinks) * linear)


def _rotate(x, angles, fill, mode):
    """Turn each image about its centre; what comes from outside is ``fill`` [C, 1, 1]."""
    n, _, size, _ = x.shape
    turn = np.deg2rad(angles)
    # from a target position to its source, about the centre, in units of half the side
    theta = np.stack([np.cos(turn), -np.sin(turn), 0 * turn, np.sin(turn), np.cos(turn), 0 * turn], 1)
    theta = paddle.to_tensor(theta.reshape(n, 2, 3).astype(np.float32))
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    return F.grid_sample(x - fill, grid, mode, "zeros", align_corners=False) + fill


def _inside(boxes, shape):
    """float32 [n, 1, H, W]: 1 within the boxes (top, bottom, left, right), 0 outside."""
    height, width = shape
    top, bottom, left, right = (paddle.to_tensor(part.reshape(-1, 1)) for part in boxes.T)
    row, column = paddle.arange(height), paddle.arange(width)
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1).astype("float32")
