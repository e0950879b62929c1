"""Augmentation, normalisation and resizing of whole batches in memory.

Colour jitter and normalisation are done on the source's pixels, before an image is enlarged: at 224 pixels out of
CIFAR's 32 they would be 49 times the work. The idea of a data set that lives in memory and is augmented by the batch is
airbench's, https://github.com/KellerJordan/cifar10-airbench.
"""
import cv2
import numpy as np

from .._check import check_choice, check_number
from .draws import draw
from .images import LUMA, central_square

# name: (default strength, lowest, highest, meaning of the strength)
AUGMENTATIONS = {
    "flip": (0.5, 0.0, 1.0, "probability of a horizontal flip"),
    "altflip": (1, 1, 1, "instead of flip: each image is mirrored in every second epoch, half of them in the first"),
    "shift": (4, 0, None, "largest shift each way in source pixels; the border is reflected"),
    "jitter": (0.2, 0.0, 1.0, "brightness, contrast and saturation each change by up to this share"),
    "crop": (0.08, 0.01, 1.0, "smallest share of the area kept by a random resized crop, aspect ratio 3/4 to 4/3"),
    "rotate": (15.0, 0.0, 180.0, "largest rotation each way in degrees; the corners become black"),
    "cutout": (0.25, 0.0, 1.0, "side of the erased square over the image's side"),
    "mixup": (0.2, 0.01, None, "alpha of the Beta distribution of the mixing weight; labels are mixed too"),
    "cutmix": (1.0, 0.01, None, "alpha of the Beta distribution of the pasted area; labels are mixed too"),
}

PRESETS = {
    "none": "",
    "standard": "flip,shift=4",
    "notebook": "crop=0.08,jitter=0.2,flip=0.5,rotate=20,mixup=0.2",  # the 2023 notebook's, with a mixup that mixes
}



def parse_augment(text, argument="augment"):
    """Read "flip,shift=4,cutout" (names of ``AUGMENTATIONS`` or ``PRESETS``) into {name: strength}.

    ``argument`` is the name that errors give it.

    Raises:
        TypeError, ValueError: a name is unknown, or a strength is not a number in its range.
    """
    if not isinstance(text, str):
        raise TypeError(f"{argument}={text!r} must be a text such as 'flip,shift=4', not {type(text).__name__}")
    chosen = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, strength = (part.strip() for part in item.partition("="))
        check_choice(argument, name, [*AUGMENTATIONS, *PRESETS])
        if name in PRESETS:
            if strength:
                raise ValueError(f"{argument}={item!r}: {name} is a preset and takes no strength")
            chosen.update(parse_augment(PRESETS[name]))
            continue
        default, low, high, _ = AUGMENTATIONS[name]
        try:
            chosen[name] = float(strength) if strength else float(default)
        except ValueError:
            raise ValueError(f"{argument}={item!r}: {strength!r} is not a number") from None
        check_number(f"{argument} {name}", chosen[name], low=low, high=high)
        if isinstance(default, int) and chosen[name] % 1:
            raise ValueError(f"{argument}={item!r}: {name} takes whole pixels")
    if "flip" in chosen and "altflip" in chosen:
        raise ValueError(f"{argument}={text!r}: altflip is instead of flip; leave one out")
    return chosen


class Augment:
    """Turn uint8 images into the network's float32 input, augmented.

    Args:
        augment: what to do, see ``parse_augment``; "none" only normalises and resizes.
        image_size: side S of the square output; None keeps the size of square images.
        mean, std: of each channel, in 0..255.
        num_classes: K, needed where labels are mixed.

    Call: ``(images uint8 [N, C, H, W], labels int64 [N], rng, mirrored=None)`` gives ``(float32 [N, C, S, S],
    labels)``. The labels are int64 [N], or float32 [N, K] where "mixup" or "cutmix" is chosen (of both, each batch
    takes one at random). ``rng`` is a ``numpy.random.Generator`` (None will do for "none"); equal generators give equal
    batches. ``mirrored`` is bool [N], the images that "altflip" mirrors, which a ``Loader`` knows; None: half of them,
    at random. The images passed in stay as they are.

    Order: flip and shift, jitter, normalisation, crop, rotation, cutout, mixup or cutmix, resizing. Of images that are
    not square the central square is taken first, unless crops are taken of them.
    """

    def __init__(self, augment="none", image_size=None, mean=(127.5,), std=(127.5,), num_classes=None):
        self.strength = parse_augment(augment)
        self.image_size = None if image_size is None else check_number("image_size", image_size, low=1, integer=True)
        self.mean = np.asarray(mean, np.float32).reshape(-1, 1, 1)
        self.std = np.asarray(std, np.float32).reshape(-1, 1, 1)
        if not np.isfinite(self.mean).all() or not (np.isfinite(self.std) & (self.std > 0)).all():
            raise ValueError(f"mean={mean} and std={std} must be finite, and std above 0")
        self._mixes = bool({"mixup", "cutmix"} & set(self.strength))
        if self._mixes and num_classes is None:
            raise ValueError(f"augment={augment!r} mixes labels: give num_classes")
        self.num_classes = None if num_classes is None else check_number("num_classes", num_classes, low=1,
                                                                         integer=True)

    def _check(self, images, labels, rng):
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
            raise TypeError(f"images of shape {np.shape(images)} and type {getattr(images, 'dtype', type(images))} "
                            "must be a uint8 array [N, C, H, W]")
        if len(self.mean) not in (1, images.shape[1]) or len(self.std) not in (1, images.shape[1]):
            raise ValueError(f"images of {images.shape[1]} channels need a mean and a std for each, not "
                             f"{len(self.mean)} and {len(self.std)}")
        if self.image_size is None and images.shape[2] != images.shape[3]:
            raise ValueError(f"images of {images.shape[2]} x {images.shape[3]} pixels are not square: give image_size")
        if self.strength and rng is None:
            raise ValueError("random augmentation needs rng, a numpy.random.Generator")
        if self._mixes and len(labels) and labels.max() >= self.num_classes:
            raise ValueError(f"label {labels.max()} is outside num_classes={self.num_classes}")

    def batch(self, images, index, rng=None, mirrored=None):
        """(float32 [n, C, S, S], labels) of the images that the array ``index`` names in a set.

        Of an ``ImageFolder`` "crop" takes the random crops from the full pictures, before everything else; without it
        the central squares are taken, at ``image_size``. So "shift" counts pixels of the network's input there.
        """
        pixels, crop = self.pixels(images, index, rng)
        return self._augment(pixels, images.labels[index], rng, mirrored, crop)

    def pixels(self, images, index, rng=None):
        """(uint8 [n, C, H, W], the crop that is left to do) of the images that the array ``index`` names in a set."""
        crop = self.strength.get("crop", 0)
        if images.crops and crop and rng is None:
            raise ValueError("random augmentation needs rng, a numpy.random.Generator")
        return images.pixels(index, self.image_size, crop if images.crops else 0, rng), 0 if images.crops else crop

    def draws(self, n, height, width, rng, mirrored=None, crop=None):
        """``Draws`` for n images of that size. ``crop``: the crop that is left to do; None: as in ``strength``."""
        strength = self.strength if crop is None else {**self.strength, "crop": crop}
        if not strength.get("crop"):
            height = width = min(height, width)
        return draw(strength, n, height, width, self.image_size or width, rng, mirrored)

    def targets(self, labels, keep):
        """The labels int64 [N]; float32 [N, K] where the share 1 - ``keep`` of the next image is mixed in."""
        if keep is None:
            return labels
        target = np.zeros((len(labels), self.num_classes), np.float32)
        rows = np.arange(len(labels))
        target[rows, labels] = keep
        target[rows, np.roll(labels, -1)] += 1 - keep
        return target

    def __call__(self, images, labels, rng, mirrored=None):
        return self._augment(images, labels, rng, mirrored, self.strength.get("crop", 0))

    def _augment(self, images, labels, rng, mirrored, crop):
        self._check(images, labels, rng)
        size = self.image_size or images.shape[-1]
        draws = self.draws(len(images), *images.shape[2:], rng, mirrored, crop)
        if not crop:
            images = central_square(images)
        if draws.flipped is not None:
            images = _flip_shift(images, draws.shift, draws.flipped)
        x = images.astype(np.float32, order="C")  # planes are then contiguous, whatever the set's layout
        if draws.jitter is not None:
            _jitter(x, draws.jitter)
        x -= self.mean
        x *= 1 / self.std
        if draws.crops is not None or draws.angles is not None:
            black = np.broadcast_to(-self.mean / self.std, (x.shape[1], 1, 1)).ravel().tolist()
            x = _crop_rotate(x, size, draws.crops, draws.angles, black)
        if draws.cutout is not None:
            _cutout(x, draws.cutout)
        if draws.pasted is not None:
            _cutmix(x, draws.pasted)
        elif draws.keep is not None:
            _mixup(x, draws.keep)
        return resize(x, size), self.targets(labels, draws.keep)


def resize(x, size):
    """Float images [N, C, H, W] to [N, C, size, size]: bilinear upwards, area average downwards."""
    n, channels, height, width = x.shape
    if (height, width) == (size, size):
        return x
    how = interpolation(height, width, size)
    out = np.empty((n, channels, size, size), np.float32)
    for plane, target in zip(x.reshape(-1, height, width), out.reshape(-1, size, size)):
        cv2.resize(plane, (size, size), dst=target, interpolation=how)
    return out


def interpolation(height, width, size):
    """OpenCV's way to resize so many pixels to a square."""
    return cv2.INTER_AREA if size < min(height, width) else cv2.INTER_LINEAR


def _flip_shift(images, shift, flipped):
    """Shift the images [N, C, H, W], their borders reflected, by int64 [2, N]; mirror those that bool [N] names."""
    n, _, height, width = images.shape
    if not shift.any():
        return _flip(images, flipped)
    dy, dx = shift[..., None]
    rows = _reflect(np.arange(height) + dy, height)
    columns = _reflect(np.arange(width) + dx, width)
    columns[flipped] = columns[flipped, ::-1]
    # [N, H, W] of positions in a channel's plane, then one take for each image: three times a full fancy index's speed
    position = rows[:, :, None] * width + columns[:, None, :]
    flat = images.reshape(n, -1, height * width)
    return np.stack([flat[i].take(position[i], axis=1) for i in range(n)])


def _flip(images, flipped):
    """The images with those mirrored that bool [N] names."""
    out = images.copy()
    for i in np.flatnonzero(flipped):
        cv2.flip(images[i].reshape(-1, images.shape[-1]), 1, dst=out[i].reshape(-1, images.shape[-1]))
    return out


def _reflect(index, length):
    """Fold indices just outside 0..length-1 back, without repeating the border."""
    return (length - 1) - np.abs((length - 1) - np.abs(index))


def _jitter(x, factors):
    """Brightness, then contrast about the image's mean grey, then saturation; x [N, C, H, W] in 0..255, in place."""
    brightness, contrast, saturation = factors[..., None, None, None]
    if x.shape[1] == 3:  # no tensordot: it copies the images, and its BLAS threads take cores from the network
        gray = x[:, :1] * LUMA[0]
        gray += x[:, 1:2] * LUMA[1]
        gray += x[:, 2:] * LUMA[2]
    else:
        gray = x.mean(1, keepdims=True)
    mean = gray.mean((2, 3), keepdims=True) * brightness
    x -= gray
    x *= saturation
    x += gray
    x *= brightness * contrast
    x += mean * (1 - contrast)
    np.clip(x, 0, 255, out=x)


def _crop_rotate(x, size, crops, angles, fill):
    """The crops, resized, then turned about the centre: [N, C, H, W] to [N, C, size, size]; either may be None."""
    n, channels, height, width = x.shape
    # Enlarged fourfold, a pixel is finer than any detail: the nearest will do, in a quarter of the time.
    how = cv2.INTER_NEAREST if size >= 4 * max(height, width) else cv2.INTER_LINEAR
    boxes = [(0, 0, height, width)] * n if crops is None else crops.tolist()
    out = np.empty((n, channels, size, size), np.float32)
    centre = ((size - 1) / 2, (size - 1) / 2)
    for i, (image, (top, left, h, w)) in enumerate(zip(x, boxes)):
        # [H, W, C]: OpenCV turns three interleaved channels in half the time of three planes
        part = cv2.resize(image[:, top:top + h, left:left + w].transpose(1, 2, 0), (size, size),
                          interpolation=interpolation(h, w, size))
        if angles is not None:
            turn = cv2.getRotationMatrix2D(centre, angles[i], 1.0)
            part = cv2.warpAffine(part, turn, (size, size), flags=how, borderValue=fill)
        out[i] = part.reshape(size, size, channels).transpose(2, 0, 1)
    return out


def _cutout(x, boxes):
    """Set a box in each image to 0, the data set's mean; in place."""
    for image, (t, b, l, r) in zip(x, boxes):
        image[:, t:b, l:r] = 0


def _mixup(x, keep):
    """keep * image + (1 - keep) * next image, in place: each image is read from memory once."""
    planes = x.reshape(len(x), -1, x.shape[-1])
    first = planes[0].copy()
    for i, share in enumerate(keep.tolist()):
        following = planes[i + 1] if i + 1 < len(x) else first
        cv2.addWeighted(planes[i], share, following, 1 - share, 0, dst=planes[i])


def _cutmix(x, boxes):
    """Paste a box of the next image into each; in place."""
    first = x[0].copy()
    for i, (t, b, l, r) in enumerate(boxes):
        x[i, :, t:b, l:r] = (x[i + 1] if i + 1 < len(x) else first)[:, t:b, l:r]
