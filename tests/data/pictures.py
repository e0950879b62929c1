"""Folders of pictures for tests."""
import numpy as np
from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


def draw(path, colour=(90, 90, 90), size=(40, 30), seed=0, **options):
    """A picture of one colour with some noise; ``size`` is (width, height)."""
    rng = np.random.default_rng(seed)
    pixels = np.array(colour) + rng.integers(-20, 21, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, **options)
    return path


def colours(folder, counts=(6, 5, 4), ending="jpg", seed=0):
    """A folder of three classes that differ in colour, pictures of several sizes."""
    for (name, colour), count in zip(COLOURS.items(), counts):
        for i in range(count):
            draw(folder / name / f"{i}.{ending}", colour, (40 + 3 * i, 34 + i), seed=100 * seed + i)
    return folder
