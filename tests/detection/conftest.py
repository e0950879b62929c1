"""What the tests of detection share: a folder of drawn pictures, a training batch."""
import contextlib

import numpy as np
import pytest

with contextlib.suppress(ImportError):  # before any test imports ppdet itself: it keeps Pillow's settings as they are
    import paddle_fasternet.detection  # noqa: F401

SIZE = 128, 96


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A folder in Pascal VOC layout: ten pictures of 128 x 96, discs and squares, one without an object."""
    from PIL import Image

    from paddle_fasternet.detection.example import annotation, draw
    folder, rng = tmp_path_factory.mktemp("drawn"), np.random.default_rng(0)
    for name in ("images", "annotations"):
        (folder / name).mkdir()
    for number in range(10):
        objects = []
        for column in range(0 if number == 3 else 2):
            side, x, y = rng.integers(24, 40), 64 * column + rng.integers(0, 20), rng.integers(0, 50)
            objects.append((("disc", "square")[rng.integers(2)], [int(x), int(y), int(x + side), int(y + side)]))
        Image.fromarray(draw(objects, rng, SIZE)).save(folder / "images" / f"p{number}.png")
        (folder / "annotations" / f"p{number}.xml").write_text(annotation(f"p{number}", objects, SIZE))
    (folder / "train.txt").write_text("".join(f"p{number}\n" for number in range(7)))
    (folder / "val.txt").write_text("".join(f"p{number}\n" for number in range(7, 10)))
    return folder


@pytest.fixture
def batch():
    """One training batch of two pictures of 96 x 96 with two boxes in one and one in the other, for any detector."""
    import paddle
    rng = np.random.default_rng(1)
    return {"image": paddle.to_tensor(rng.standard_normal((2, 3, 96, 96)).astype(np.float32)),
            "gt_bbox": paddle.to_tensor(np.array([[[8, 8, 50, 60], [40, 30, 90, 90]], [[20, 10, 70, 80], [0] * 4]],
                                                 np.float32)),
            "gt_class": paddle.to_tensor(np.array([[[0], [1]], [[2], [0]]], np.int64)),
            "pad_gt_mask": paddle.to_tensor(np.array([[[1], [1]], [[1], [0]]], np.float32))}
