"""Single images out of files, memory and arrays; the square that is taken of an image; grey and colour."""
import contextlib
import io
import os
import sys
import warnings

import numpy as np

from .._check import check_path
from .depth import to_8_bits

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as image libraries convert to grey
KINDS = "a path, bytes, an open file, a PIL image, or uint8 [H, W] or [H, W, C] as array or tensor"


def central_square(images):
    """The central squares of images [..., H, W]: a view."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top:top + side, left:left + side]


def read_image(source):
    """Read an image as uint8 [3, S, S]: upright, in colour, on white, and its central square.

    Pixels of more than 8 bits are scaled as a person sees them, see ``depth.to_8_bits``; of several frames the first
    is taken.

    Args:
        source: path of an image file, its content as bytes, a file open for reading, or a PIL image.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an image, is damaged, or is so large that it looks like an attack.
    """
    return np.ascontiguousarray(central_square(read_picture(source).transpose(2, 0, 1)))


def read_picture(source):
    """``read_image`` without the cut: the full picture, uint8 [H, W, 3]."""
    from PIL import Image, ImageOps, UnidentifiedImageError
    name = "the PIL image" if isinstance(source, Image.Image) else name_of(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _open(source) as image:
                image = ImageOps.exif_transpose(to_8_bits(image))
                if image.has_transparency_data:
                    white = Image.new("RGBA", image.size, "white")
                    image = Image.alpha_composite(white, image.convert("RGBA"))
                return np.asarray(_lab_to_rgb(image) if image.mode == "LAB" else image.convert("RGB"))
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image that can be read: its format is not known") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name} is not an image that can be read: {error}") from error


@contextlib.contextmanager
def _open(source):
    """The PIL image that ``source`` is or holds; a file that is open already stays open."""
    from PIL import Image
    with contextlib.ExitStack() as stack:
        if isinstance(source, (bytes, bytearray, memoryview)):
            source = io.BytesIO(source)
        elif not isinstance(source, Image.Image) and not hasattr(source, "read"):
            path = check_path("image", source)
            if not path.is_file():
                raise FileNotFoundError(f"{path}: there is no such image file")
            # opened here, because Pillow 12 garbles rotated TIFF files that it maps into memory
            source = stack.enter_context(open(path, "rb"))
        yield source if isinstance(source, Image.Image) else stack.enter_context(Image.open(source))


def _lab_to_rgb(image):
    from PIL import ImageCms
    return ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"),
                                     outputMode="RGB")


def name_of(source):
    """What to call an image in a message."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"image of {len(source):,} bytes"
    name = getattr(source, "name", None) if hasattr(source, "read") else None
    return str(name) if isinstance(name, (str, os.PathLike)) else f"the {type(source).__name__}"


def is_image(source):
    """Whether ``source`` is one image or array of images rather than a list of them."""
    return (isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray)) or is_tensor(source)
            or hasattr(source, "read") or hasattr(source, "convert"))


def is_tensor(source):
    """Whether it is Paddle's tensor, which nobody has without importing Paddle."""
    paddle = sys.modules.get("paddle")
    return paddle is not None and isinstance(source, paddle.Tensor)


def as_pixels(source, channels=3):
    """A single image of any kind as uint8 [H, W, channels].

    Args:
        source: a path, bytes, an open file, a PIL image, or uint8 [H, W] or [H, W, C] as array or tensor, C 1, 3 or 4.
        channels: 3, or 1 for grey.

    Raises:
        FileNotFoundError, ValueError, TypeError: it is missing, damaged, or no image.
    """
    if is_tensor(source):
        source = source.numpy()
    if not isinstance(source, np.ndarray):
        if not is_image(source):
            raise TypeError(f"image of type {type(source).__name__} must be {KINDS}")
        return fit_channels(read_picture(source), channels)
    check_pixels(source)
    if source.ndim == 4:
        raise ValueError(f"an array of shape {list(source.shape)} among single images; give one array, or single "
                         "images")
    return fit_channels(source if source.ndim == 3 else source[..., None], channels)


def check_pixels(images):
    """Raise TypeError or ValueError unless an array is uint8 [H, W], [H, W, C] or [N, H, W, C], C 1, 3 or 4."""
    shape = list(images.shape)
    if images.dtype != np.uint8:
        raise TypeError(f"images of type {images.dtype} must be uint8, 0..255; a normalised batch goes to .logits(x)")
    if images.ndim not in (2, 3, 4) or not min(shape if images.ndim == 2 else shape[-3:]):
        raise ValueError(f"images of shape {shape} must be [N, H, W, C], [H, W, C] or [H, W], and not empty")
    if images.ndim > 2 and shape[-1] not in (1, 3, 4):
        order = (0, 2, 3, 1) if images.ndim == 4 else (1, 2, 0)
        hint = f"; move the channels: images.transpose({', '.join(map(str, order))})" if shape[-3] in (1, 3, 4) else ""
        raise ValueError(f"images of shape {shape} must have 1, 3 or 4 channels last{hint}")


def fit_channels(images, channels):
    """uint8 [..., H, W, C] with ``channels`` channels, 1 or 3: on white where C is 4, then made grey or repeated."""
    if images.shape[-1] == 4:
        alpha = images[..., 3:].astype(np.float32) / 255
        images = np.rint(images[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    if images.shape[-1] == channels:
        return images
    if channels == 1:
        return np.rint(images @ LUMA).astype(np.uint8)[..., None]
    return np.repeat(images, 3, axis=-1)
