"""Drawn pictures with discs and squares, and their annotations."""
import numpy as np

COLOURS = {"disc": (200, 60, 60), "square": (60, 60, 200)}


def annotation(name, objects, size=(128, 96)):
    """Pascal VOC's XML; objects: (class, [x0, y0, x1, y1])."""
    parts = "".join(f"<object><name>{kind}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}"
                    f"</xmax><ymax>{box[3]}</ymax></bndbox></object>" for kind, box in objects)
    return (f"<annotation><filename>{name}.png</filename><size><width>{size[0]}</width><height>{size[1]}</height>"
            f"<depth>3</depth></size>{parts}</annotation>")


def draw(objects, rng, size=(128, 96)):
    """uint8 [H, W, 3] with discs and squares on noise."""
    picture = rng.integers(150, 200, (size[1], size[0], 3)).astype(np.uint8)
    rows, columns = np.mgrid[:size[1], :size[0]] + 0.5
    for kind, (x0, y0, x1, y1) in objects:
        inside = (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)
        if kind == "disc":
            inside &= (((columns - (x0 + x1) / 2) / (x1 - x0)) ** 2 + ((rows - (y0 + y1) / 2) / (y1 - y0)) ** 2) < 0.25
        picture[inside] = COLOURS[kind]
    return picture
