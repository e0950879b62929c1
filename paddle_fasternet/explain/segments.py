"""An image, its superpixels, and images of which some superpixels are hidden."""
import numpy as np

from .._check import check_choice
from ..data.images import KINDS, as_pixels, fit_channels, is_image, is_tensor
from .quickshift import quickshift

SEGMENTATIONS = ("quickshift", "slic")
_SMALL, _SIDE = 64, 224  # pixels; images smaller than the one are cut into superpixels at about the other
_MOST_PIXELS = 1 << 20
_SLIC_SEGMENTS = 64


def check_image(image):
    """An image as uint8 [H, W, 3]; a grey one three times the same, a transparent one on white.

    Args:
        image: a path, bytes, an open file, a PIL image, or array or tensor [H, W], [H, W, C] or [C, H, W], C 1, 3 or 4:
            integers 0..255 or floats 0..1.

    Raises:
        FileNotFoundError, TypeError, ValueError: it is missing, damaged, or something else.
    """
    if is_image(image) and not (isinstance(image, np.ndarray) or is_tensor(image)):
        return as_pixels(image)
    pixels = np.asarray(image)
    if pixels.dtype.kind not in "iuf":
        raise TypeError(f"image must be an array of integers 0..255 or floats 0..1, not {type(image).__name__}"
                        f"{'' if pixels.dtype.kind in 'OUS' else f' of {pixels.dtype}'}; or {KINDS}")
    shape = pixels.shape
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    elif pixels.ndim == 3 and shape[-1] not in (1, 3, 4) and shape[0] in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    elif pixels.ndim != 3 or shape[-1] not in (1, 3, 4):
        raise ValueError(f"image of shape {shape} must be one image [H, W], [H, W, C] or [C, H, W], C 1, 3 or 4")
    if not pixels.size:
        raise ValueError(f"image of shape {shape} has no pixels")
    low, high = pixels.min(), pixels.max()
    top = 1 if pixels.dtype.kind == "f" else 255
    if not (low >= 0 and high <= top):  # NaN is not
        raise ValueError(f"image has values from {low:g} to {high:g}; they must be integers 0..255 or floats 0..1, "
                         "before any normalisation")
    pixels = (np.rint(pixels * 255.0) if top == 1 else pixels).astype(np.uint8)
    return np.ascontiguousarray(fit_channels(pixels, 3))


def segment(image, segmentation="quickshift"):
    """Cut an image into superpixels.

    An image whose shorter side is under 64 pixels is cut at a whole multiple of its size, about 224, where superpixels
    mean something: quickshift finds 5 to 7 in 32 x 32 pixels and about ten times as many in the same image at 224.
    Each pixel then belongs to the superpixel that has most of its enlarged square.

    Args:
        image: uint8 [H, W, 3].
        segmentation: "quickshift", "slic", or a function from such an image (at its own size) to integers [H, W].

    Returns:
        int64 [H, W], numbered from 0.

    Raises:
        ValueError: the image is too large to be cut into a sensible number of superpixels, or has only one.
    """
    if callable(segmentation):
        return number_segments("segmentation(image)", segmentation(image), image)
    check_choice("segmentation", segmentation, SEGMENTATIONS)
    height, width = image.shape[:2]
    factor = _SIDE // min(height, width) if min(height, width) < _SMALL else 1
    if factor * factor * height * width > _MOST_PIXELS:
        raise ValueError(f"image of {height} x {width} pixels is too large to be cut into superpixels; resize it to "
                         f"what the network sees, {_SIDE} x {_SIDE}, say")
    large = image
    if factor > 1:
        import cv2
        large = cv2.resize(image, (factor * width, factor * height), interpolation=cv2.INTER_LINEAR)
    segments = quickshift(large) if segmentation == "quickshift" else _slic(large)
    if factor > 1:
        squares = segments.reshape(height, factor, width, factor).swapaxes(1, 2).reshape(height * width, factor**2)
        segments = _most_frequent(squares).reshape(height, width)
    return number_segments("segmentation", segments, image)


def _slic(image):
    from skimage.segmentation import slic
    return slic(image, n_segments=_SLIC_SEGMENTS, compactness=10, sigma=1, start_label=0, channel_axis=-1)


def _most_frequent(rows):
    """The most frequent number of each row, the lowest of several; integers [N, K] to [N]."""
    ordered = np.sort(rows, axis=1)
    new = np.ones(ordered.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    starts = np.flatnonzero(new)
    lengths, row = np.diff(starts, append=ordered.size), starts // rows.shape[1]
    longest_first = np.lexsort((starts, -lengths, row))
    _, first = np.unique(row, return_index=True)  # rows keep their places in that order
    return ordered.ravel()[starts[longest_first[first]]]


def number_segments(argument, segments, image):
    """Segments of an image, numbered from 0 in the order of their numbers; int64 [H, W].

    Raises:
        ValueError: they are not integers [H, W], or there is only one.
    """
    segments = np.asarray(segments)
    if segments.shape != image.shape[:2] or segments.dtype.kind not in "iu":
        raise ValueError(f"{argument} of shape {segments.shape} and type {segments.dtype} must be integers "
                         f"{list(image.shape[:2])}, the number of each pixel's segment")
    numbers, segments = np.unique(segments, return_inverse=True)
    if len(numbers) < 2:
        raise ValueError(f"{argument} has one segment only: there is nothing to tell apart; try another segmentation")
    return segments.reshape(image.shape[:2]).astype(np.int64)


def check_hide(hide):
    """What is seen of a hidden segment: "mean", or a colour, uint8 [3].

    Raises:
        ValueError: ``hide`` is neither "mean" nor a number or three in 0..255.
    """
    if isinstance(hide, str):
        check_choice("hide", hide, ("mean",))
        return hide
    colour = np.asarray(hide)
    if colour.dtype.kind not in "iuf" or colour.shape not in ((), (3,)) or not ((colour >= 0) & (colour <= 255)).all():
        raise ValueError(f"hide={hide!r} must be 'mean' or a colour of one or three numbers 0..255")
    return np.broadcast_to(colour.astype(np.uint8), 3)


def hidden_image(image, segments, hide="mean"):
    """The image with every segment hidden; uint8 [H, W, 3].

    Args:
        hide: see ``check_hide``; "mean" is the mean colour of each segment.
    """
    hide = check_hide(hide)
    if not isinstance(hide, str):
        return np.broadcast_to(hide, image.shape)
    count = np.bincount(segments.ravel())
    sums = [np.bincount(segments.ravel(), image[:, :, channel].ravel()) for channel in range(3)]
    means = np.stack(sums, -1) / count[:, None]
    return means.astype(np.uint8)[segments]  # cut off, not rounded, as in InterpretDL


class Hider:
    """Makes images of which segments are hidden, a batch at a time.

    Args:
        image: uint8 [H, W, 3].
        segments: int64 [H, W].
        hidden: uint8 [H, W, 3], what is seen instead of hidden segments.

    Call: masks [N, segments], true where a segment is shown, to uint8 [N, H, W, 3].
    """

    def __init__(self, image, segments, hidden):
        self._image, self._segments, self._hidden = image, segments, hidden

    def __call__(self, masks):
        import cv2
        images = np.empty((len(masks), *self._image.shape), np.uint8)
        images[:] = self._hidden
        # looking up each pixel's segment is what takes time: eight masks, a bit of each, are looked up together
        eights = np.packbits(masks, axis=0, bitorder="little")
        for i, image in enumerate(images):
            if i % 8 == 0:
                shown = eights[i // 8][self._segments]
            cv2.copyTo(self._image, shown & (1 << i % 8), image)
        return images
