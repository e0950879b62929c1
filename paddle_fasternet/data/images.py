"""Single images out of files, and the square that is taken of an image."""
import contextlib
import warnings

import numpy as np

from .._check import check_path


def central_square(images):
    """The central squares of images [..., H, W]: a view."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top:top + side, left:left + side]


def read_image(source):
    """Read an image as uint8 [3, S, S]: upright, in colour, on white, and its central square.

    Args:
        source: path of an image file, or a PIL image.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an image, is damaged, or is so large that it looks like an attack.
    """
    return np.ascontiguousarray(central_square(read_picture(source).transpose(2, 0, 1)))


def read_picture(source):
    """``read_image`` without the cut: the full picture, uint8 [H, W, 3]."""
    from PIL import Image, ImageOps
    if isinstance(source, Image.Image):
        path, opened = "the PIL image", contextlib.nullcontext(source)
    else:
        path = check_path("image", source)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such image file")
        opened = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with opened or Image.open(path) as image:
                image = ImageOps.exif_transpose(image)
                if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion cuts instead of scaling
                    image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
                if image.has_transparency_data:
                    white = Image.new("RGBA", image.size, "white")
                    image = Image.alpha_composite(white, image.convert("RGBA"))
                return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} is not an image that can be read: {error}") from error
