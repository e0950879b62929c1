"""Pixels of more than 8 bits, as a person sees them: scaled to 0..255 by what the file declares or by what it holds."""
import numpy as np

_DEPTHS = (8, 10, 12, 14, 16)  # of sensors; 9, 11, 13 and 15 bits are those of a darker picture of the next depth
_ORIENTATION = 0x0112
_TIFF_LIMITS = ((280, 281), (340, 341))  # MinSampleValue and MaxSampleValue; SMinSampleValue and SMaxSampleValue
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0


def is_deep(image):
    """Whether a PIL image has more than 8 bits a channel, in the file if not in memory."""
    return image.mode[0] in "IF" or _is_cut(image)


def to_8_bits(image):
    """A PIL image of 8 bits a channel; ``image`` itself where it has no more.

    Integers up to 65535 are divided by the largest value of their depth. The file declares it (PNG's sBIT, TIFF's
    MaxSampleValue); otherwise it is the smallest of 8, 10, 12, 14 and 16 bits that holds the brightest pixel, because
    most files of 12 bits do not say so. Other integers are stretched from the darkest to the brightest pixel. Floats
    are taken for 0..1 or 0..255 where all of them are in that range, and stretched otherwise; those that are not
    finite are black.
    """
    from PIL import Image
    if not is_deep(image):
        return image
    low, high = _declared(image)
    inverted = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if image.mode[0] in "IF":
        pixels = scale_to_8_bits(np.asarray(image), low, high)
        reduced = Image.fromarray(255 - pixels if inverted else pixels)
    else:
        reduced = _decode_again(image, high)
    if reduced is not image:
        orientation = image.getexif().get(_ORIENTATION)
        if orientation:
            reduced.getexif()[_ORIENTATION] = orientation
    return reduced


def scale_to_8_bits(values, low=None, high=None):
    """uint8 of integers or floats [...]; see ``to_8_bits``.

    Args:
        low, high: what the file declares as black and white, if it does.
    """
    finite, floats = np.isfinite(values), values.dtype.kind == "f"
    values = np.where(finite, values, 0).astype(np.float64)
    least, most = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    if high is None or most > high or least < (low or 0):
        low, high = _range(least, most, floats)
    shares = (values - (low or 0)) / max(high - (low or 0), 1e-300)
    return np.where(finite, np.rint(255 * shares.clip(0, 1)), 0).astype(np.uint8)


def _range(least, most, floats):
    """(black, white) of values from ``least`` to ``most``."""
    if floats and 0 <= least and most <= 1:
        return 0, 1
    if least < 0 or most > (255 if floats else 65535):
        return least, most
    return 0, 2 ** next(bits for bits in _DEPTHS if most < 2**bits) - 1


def _is_cut(image):
    """Whether Pillow keeps only the upper 8 of 16 bits of a colour picture; known until it is loaded."""
    for tile in getattr(image, "tile", None) or ():
        mode = tile[3] if isinstance(tile[3], str) else tile[3][0] if tile[3] else ""
        if isinstance(mode, str) and ";16" in mode and not mode.startswith("I"):
            return True
    return False


def _decode_again(image, high):
    """A colour picture of 16 bits at its full depth, by OpenCV; ``image`` itself where OpenCV cannot read it."""
    import cv2
    from PIL import Image
    position = image.fp.tell()
    image.fp.seek(0)
    content = image.fp.read()
    image.fp.seek(position)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        return image
    colours = scale_to_8_bits(pixels[..., 2::-1], high=high)
    if pixels.shape[2] == 3:
        return Image.fromarray(colours)
    return Image.fromarray(np.dstack([colours, scale_to_8_bits(pixels[..., 3])]), "RGBA")


def _declared(image):
    """(black, white) by the file's own words, None for what it does not say."""
    if image.format == "PNG" and getattr(image, "fp", None):
        return None, _png_white(image)
    tags = getattr(image, "tag_v2", {})
    for lowest, highest in _TIFF_LIMITS:
        if highest in tags:
            low, high = (np.ravel(tags.get(tag, 0)).astype(float) for tag in (lowest, highest))
            if high.max() > low.min():
                return low.min(), high.max()
    return None, None


def _png_white(image):
    """The largest value of the depth that PNG's sBIT chunk names."""
    position = image.fp.tell()
    image.fp.seek(8)
    try:
        while True:
            head = image.fp.read(8)
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if len(head) < 8 or kind in (b"IDAT", b"IEND"):
                return None
            content = image.fp.read(length + 4)
            if kind == b"sBIT":
                bits = max(content[:3 if length >= 3 else 1])
                return 2**bits - 1 if 8 < bits <= 16 else None
    finally:
        image.fp.seek(position)
