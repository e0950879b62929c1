"""Single images out of files."""
import warnings
from pathlib import Path

import numpy as np


def read_image(path):
    """Read an image file as uint8 [3, S, S]: upright, in colour, on white, and its central square.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an image, is damaged, or is so large that it looks like an attack.
    """
    from PIL import Image, ImageOps
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image = ImageOps.exif_transpose(image)
                if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion cuts instead of scaling
                    image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
                if image.has_transparency_data:
                    white = Image.new("RGBA", image.size, "white")
                    image = Image.alpha_composite(white, image.convert("RGBA"))
                pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} is not an image that can be read: {error}") from error
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(pixels[top:top + side, left:left + side].transpose(2, 0, 1))
