"""Pictures into a network's input and boxes there and back; augmentation of a picture with its boxes."""
import numpy as np

FILL = (124, 116, 104)  # the mean colour of ImageNet, around pictures of another shape
STRIDE = 32  # the input's sides are multiples of it


def input_shape(sizes, image_size):
    """(height, width) of about image_size ** 2 pixels in the pictures' median shape, multiples of 32, at least 96.

    Args:
        sizes: (width, height) of the pictures.
        image_size: side of a square input.
    """
    stretch = float(np.exp(np.median([np.log(width / height) for width, height in sizes]) / 2))
    height, width = (max(STRIDE * round(side / STRIDE), 96) for side in (image_size / stretch, image_size * stretch))
    return height, width


def shrink(picture, shape, most=2.0):
    """(picture, factor): a picture more than ``most`` times as large as the input is made smaller by area.

    Otherwise the interpolation that follows would skip pixels.
    """
    import cv2
    factor = most * fit(picture.shape, shape)
    if factor >= 1:
        return picture, 1.0
    height, width = (max(round(side * factor), 1) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), factor


def fit(picture_shape, shape):
    """The factor that makes a picture [H, W, ...] as large as fits into ``shape``."""
    return min(shape[0] / picture_shape[0], shape[1] / picture_shape[1])


def place(picture, shape, scale, offset):
    """The picture, scaled by ``scale`` (x, y), at ``offset`` (x, y) in an input of ``shape``: uint8 [H, W, 3]."""
    import cv2
    (sx, sy), (tx, ty) = scale, offset
    # From the corners of pixels, which boxes count from, to their centres, which OpenCV counts from
    matrix = np.array([[sx, 0, tx + (sx - 1) / 2], [0, sy, ty + (sy - 1) / 2]], np.float64)
    return cv2.warpAffine(picture, matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR, borderValue=FILL)


def letterbox(picture, shape):
    """(input uint8 [H, W, 3], factor): the whole picture at the upper left; boxes / factor are in its pixels."""
    small, factor = shrink(picture, shape)
    scale = fit(small.shape, shape)
    return place(small, shape, (scale, scale), (0.0, 0.0)), factor * scale


def augment(picture, boxes, labels, shape, rng, flip="horizontal"):
    """A training sample: random size, place, mirror image and colours.

    Args:
        picture: uint8 [H, W, 3].
        boxes, labels: float32 [n, 4] in its pixels, int64 [n].
        shape: (height, width) of the result.
        rng: ``numpy.random.Generator``.
        flip: "none", "horizontal", or "both" for pictures without an up and a down.

    Returns:
        (uint8 [height, width, 3], boxes, labels); boxes of which less than 0.3 is left are gone.
    """
    height, width = picture.shape[:2]
    size = fit(picture.shape, shape) * np.exp(rng.uniform(np.log(0.6), np.log(1.6)))
    stretch = np.exp(rng.uniform(-0.1, 0.1))
    scale = size * stretch, size / stretch
    room = [shape[1] - width * scale[0], shape[0] - height * scale[1]]
    offset = [rng.uniform(min(each, 0), max(each, 0)) for each in room]
    result = place(picture, shape, scale, offset)
    moved = boxes * np.array([*scale, *scale], np.float32) + np.array([*offset, *offset], np.float32)
    if flip != "none" and rng.random() < 0.5:
        result = result[:, ::-1]
        moved[:, [0, 2]] = shape[1] - moved[:, [2, 0]]
    if flip == "both" and rng.random() < 0.5:
        result = result[::-1]
        moved[:, [1, 3]] = shape[0] - moved[:, [3, 1]]
    clipped = moved.clip(0, [shape[1], shape[0]] * 2).astype(np.float32)
    sides, left = (moved[:, 2:] - moved[:, :2]), (clipped[:, 2:] - clipped[:, :2])
    kept = (left.prod(1) > 0.3 * sides.prod(1)) & (left.min(1, initial=np.inf) >= 2)
    return recolour(result, rng), clipped[kept], labels[kept]


def recolour(picture, rng):
    """Random contrast, brightness, saturation and tint; uint8 [H, W, 3] to the same."""
    colours = picture.astype(np.float32)
    grey = colours.mean(2, keepdims=True)
    colours = grey + (colours - grey) * np.float32(rng.uniform(0.6, 1.4))
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.95, 1.05, 3)
    bias = rng.uniform(-20, 20)
    return (colours * gain.astype(np.float32) + np.float32(bias)).clip(0, 255).astype(np.uint8)
