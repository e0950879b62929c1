"""A folder to try detection on where there is none: blood cells, if their archive is at hand, or drawn shapes."""
import tarfile
from pathlib import Path

import numpy as np

from .._check import check_number, check_path

ARCHIVE = Path(__file__).resolve().parents[3] / "shared" / "data" / "blood-cells.tar"
COLOURS = {"disc": (200, 60, 60), "square": (60, 60, 200)}
_SIZE = 192, 144  # width and height


def example_folder(folder, archive=ARCHIVE):
    """The path of a folder for ``load_boxes``, made within ``folder`` unless it is there.

    Args:
        folder: where it is made.
        archive: a tar of blood cells in Pascal VOC layout (https://github.com/Shenggan/BCCD_Dataset, MIT licence: 292
            pictures, three classes). Where it is missing, ``draw_shapes`` makes pictures.
    """
    folder = check_path("folder", folder)
    if not Path(archive).is_file():
        return draw_shapes(folder / "shapes")
    target = folder / Path(archive).stem
    if not (target / "val.txt").is_file():
        with tarfile.open(archive) as tar:
            members = [member for member in tar.getmembers() if member.isfile() and not Path(member.name).is_absolute()
                       and ".." not in Path(member.name).parts]
            for member in sorted(members, key=lambda member: member.name.endswith("val.txt")):  # it says: complete
                path = target / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tar.extractfile(member).read())
    return target


def draw_shapes(folder, count=40, seed=0):
    """A folder in Pascal VOC layout with pictures of discs and squares on noise; a quarter is for validation.

    Args:
        folder: is made.
        count: pictures, at least 4.
        seed: of what is drawn.

    Returns:
        its path.
    """
    from PIL import Image
    folder = check_path("folder", folder)
    count = check_number("count", count, low=4, integer=True)
    rng = np.random.default_rng(seed)
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = [f"shapes_{number:03}" for number in range(count)]
    for name in names:
        objects = []
        for column in range(rng.integers(1, 4)):
            side, x, y = rng.integers(24, 48), 64 * column + rng.integers(0, 16), rng.integers(0, 90)
            objects.append((("disc", "square")[rng.integers(2)], [int(x), int(y), int(x + side), int(y + side)]))
        Image.fromarray(draw(objects, rng, _SIZE)).save(folder / "images" / f"{name}.png")
        (folder / "annotations" / f"{name}.xml").write_text(annotation(name, objects, _SIZE), encoding="utf-8")
    (folder / "train.txt").write_text("\n".join(names[count // 4:]) + "\n")
    (folder / "val.txt").write_text("\n".join(names[:count // 4]) + "\n")
    return folder


def annotation(name, objects, size):
    """Pascal VOC's XML; objects: (class, [x0, y0, x1, y1]); size: (width, height)."""
    parts = "".join(f"<object><name>{kind}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}"
                    f"</xmax><ymax>{box[3]}</ymax></bndbox></object>" for kind, box in objects)
    return (f"<annotation><filename>{name}.png</filename><size><width>{size[0]}</width><height>{size[1]}</height>"
            f"<depth>3</depth></size>{parts}</annotation>")


def draw(objects, rng, size):
    """uint8 [H, W, 3] with discs and squares on noise."""
    picture = rng.integers(150, 200, (size[1], size[0], 3)).astype(np.uint8)
    rows, columns = np.mgrid[:size[1], :size[0]] + 0.5
    for kind, (x0, y0, x1, y1) in objects:
        inside = (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)
        if kind == "disc":
            inside &= (((columns - (x0 + x1) / 2) / (x1 - x0)) ** 2 + ((rows - (y0 + y1) / 2) / (y1 - y0)) ** 2) < 0.25
        picture[inside] = COLOURS[kind]
    return picture
