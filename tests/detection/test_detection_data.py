import functools
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ppdet", reason="needs PaddleDetection: make detection")

from paddle_fasternet.detection import example, geometry, load_boxes  # noqa: E402

annotation = functools.partial(example.annotation, size=(128, 96))


@pytest.fixture
def folder(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "copy")


def test_pascal_voc(drawn):
    train, val = load_boxes(drawn)
    assert (len(train), len(val)) == (7, 3) and train.class_names == ("disc", "square")
    assert train.sizes == ((128, 96),) * 7 and len(train.boxes[3]) == 0
    assert repr(val).startswith("BoxSet(3 pictures; ")
    assert train[:2].files == train.files[:2] and train[[3]].files == (train.files[3],)
    x0, y0, x1, y1 = train.boxes[0][0].astype(int)
    middle = train.picture(0)[(y0 + y1) // 2, (x0 + x1) // 2]
    assert tuple(middle) == {0: (200, 60, 60), 1: (60, 60, 200)}[int(train.labels[0][0])]


def test_without_lists_a_part_is_drawn(folder):
    for name in ("train.txt", "val.txt"):
        (folder / name).unlink()
    train, val = load_boxes(folder, val=0.3)
    assert len(train) == 7 and len(val) == 3 and not set(train.files) & set(val.files)
    assert load_boxes(folder, val=0.3)[1].files == val.files != load_boxes(folder, val=0.3, seed=5)[1].files


def test_lists_of_two_columns_in_imagesets(folder):
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "train.txt").replace(folder / "ImageSets" / "Main" / "train.txt")
    (folder / "val.txt").write_text("images/p8.png annotations/p8.xml\n./images/p9.png ./annotations/p9.xml\n")
    train, val = load_boxes(folder)
    assert len(train) == 7 and [path.name for path in val.files] == ["p8.png", "p9.png"]


def test_a_list_of_classes_gives_their_order(folder):
    (folder / "labels.txt").write_text("square\ndisc\nstar\n")
    assert load_boxes(folder)[0].class_names == ("square", "disc", "star")
    assert load_boxes(folder, class_names=["disc", "square"])[0].class_names == ("disc", "square")


def coco(folder, train):
    """The same set in COCO's layout; returns the content of its training file."""
    (folder / "train2017").mkdir()
    content = {"categories": [{"id": 7, "name": "disc"}, {"id": 3, "name": "square"}, {"id": 9, "name": "none"}],
               "images": [], "annotations": []}
    for image, (file, boxes, labels) in enumerate(zip(train.files, train.boxes, train.labels)):
        shutil.copy(file, folder / "train2017" / file.name)
        content["images"].append({"id": image, "file_name": file.name})
        for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels):
            content["annotations"].append({"id": len(content["annotations"]), "image_id": image, "iscrowd": 0,
                                           "category_id": (7, 3)[label], "bbox": [x0, y0, x1 - x0, y1 - y0]})
    write(folder, content)
    return content


def write(folder, content):
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / "instances_train2017.json").write_text(json.dumps(content))


def test_coco(drawn, tmp_path):
    voc = load_boxes(drawn)[0]
    content = coco(tmp_path, voc)
    train, val = load_boxes(tmp_path)  # without a file for validation
    assert (len(train), len(val)) == (6, 1) and train.class_names == ("square", "disc")
    by_name = {path.name: boxes for path, boxes in zip(voc.files, voc.boxes)}
    for path, boxes in zip(train.files, train.boxes):
        np.testing.assert_allclose(boxes, by_name[path.name])
    content["annotations"][0]["iscrowd"] = 1
    write(tmp_path, content)
    shutil.copy(tmp_path / "annotations" / "instances_train2017.json", tmp_path / "annotations" / "val.json")
    (tmp_path / "train2017").rename(tmp_path / "images")
    train, val = load_boxes(tmp_path)
    assert len(train) == len(val) == 7 and train.ignored[0].tolist() == [True, False]


@pytest.mark.parametrize("change, message", [
    (lambda c: c["annotations"][0].update(category_id=4), "unknown class 4"),
    (lambda c: c["annotations"][0].update(image_id=40), "picture 40, which is not listed"),
    (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "cannot be read|that can be read"),
    (lambda c: c["annotations"][0].update(bbox=[100, 2, 90, 3]), "p0.png: box .* lies outside its picture"),
    (lambda c: c.pop("images"), "that can be read: KeyError"),
    (lambda c: c["images"].clear() or c["annotations"].clear(), "lists no picture"),
    (lambda c: c["images"][2].update(file_name="gone.png"), "gone.png: there is no such picture"),
])
def test_mistakes_in_coco_name_their_file(drawn, tmp_path, change, message):
    content = coco(tmp_path, load_boxes(drawn)[0])
    change(content)
    write(tmp_path, content)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load_boxes(tmp_path)
    assert "instances_train2017.json" in str(caught.value)


@pytest.mark.parametrize("text, message", [
    (annotation("p1", [("disc", [10, 10, 140, 40])]), "lies outside its picture of 128 x 96"),
    (annotation("p1", [("disc", [-3, 10, 40, 40])]), "lies outside its picture"),
    (annotation("p1", [("disc", [40, 10, 30, 40])]), "wrong order"),
    (annotation("p1", [("disc", ["nan", 10, 30, 40])]), "wrong order"),
    (annotation("p1", [("disc", ["", 10, 30, 40])]), "an object has no bndbox/xmin"),
    (annotation("p1", [("disc", ["ten", 10, 30, 40])]), "could not convert"),
    ("<annotation><object><name>disc</name></object></annotation>", "an object has no bndbox/xmin"),
    ("<annotation><object>", "that can be read"),
    ("", "that can be read"),
    ('<!DOCTYPE a [<!ENTITY b "boom">]><annotation>&b;</annotation>', "a document type"),
    ('<! doctype a>', "a document type"),
])
def test_mistakes_in_an_annotation_name_its_file(folder, text, message):
    (folder / "annotations" / "p1.xml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_boxes(folder)
    assert "p1.xml" in str(caught.value)


def test_entities_in_other_encodings_are_refused(folder):
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "boom">]><annotation>&b;</annotation>'
    (folder / "annotations" / "p1.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match=r"p1\.xml has a document type or zero bytes"):
        load_boxes(folder)


def test_other_mistakes_name_their_file(folder):
    with pytest.raises(ValueError, match=r"p7\.xml|p8\.xml|p9\.xml") as caught:
        for number in (7, 8, 9):
            (folder / "annotations" / f"p{number}.xml").write_text(annotation("p", [("disk", [10, 10, 30, 30])]))
        load_boxes(folder)
    assert "class='disk' is not known; did you mean 'disc'" in str(caught.value)
    (folder / "images" / "p2.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"p2\.png is not an image"):
        load_boxes(folder)
    (folder / "images" / "p2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"p2\.jpg: there is no such picture"):
        load_boxes(folder)
    (folder / "annotations" / "p1.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"p1\.xml: there is no such annotation"):
        load_boxes(folder)
    (folder / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no val\.txt"):
        load_boxes(folder)
    shutil.rmtree(folder / "images")
    with pytest.raises(FileNotFoundError, match="neither layout"):
        load_boxes(folder)
    with pytest.raises(FileNotFoundError, match="is not there"):
        load_boxes(folder / "none")


def test_boxes_at_the_edge_and_without_area(folder):
    (folder / "annotations" / "p0.xml").write_text(annotation("p0", [
        ("disc", [1, 1, 129, 96]), ("square", [5, 5, 5, 9])]))
    train, _ = load_boxes(folder)
    assert train.boxes[0].tolist() == [[1, 1, 128, 96]]
    assert len(train.notes) == 1 and "p0.xml" in train.notes[0] and "no area" in train.notes[0]


def test_a_turned_photograph_has_its_upright_size(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 128)).save(folder / "images" / "p0.jpg", exif=exif)
    (folder / "images" / "p0.png").unlink()
    train, _ = load_boxes(folder)
    assert train.sizes[0] == (128, 96) and train.picture(0).shape == (96, 128, 3)


@pytest.mark.parametrize("sizes, side, expected", [
    ([(640, 480)] * 3, 320, (288, 384)), ([(100, 100)], 320, (320, 320)), ([(10, 1000)], 96, (960, 96))])
def test_input_shape(sizes, side, expected):
    assert geometry.input_shape(sizes, side) == expected


def test_letterbox_and_augmentation_keep_boxes_on_their_objects():
    picture = np.full((300, 500, 3), 90, np.uint8)
    picture[120:180, 200:320] = (250, 10, 10)
    boxes = np.array([[200, 120, 320, 180]], np.float32)
    small, factor = geometry.letterbox(picture, (96, 160))
    assert factor == pytest.approx(0.32)
    red = np.argwhere(small[..., 0] > 200)
    np.testing.assert_allclose([*red.min(0)[::-1], *(red.max(0)[::-1] + 1)], boxes[0] * factor, atol=1)
    rng, seen = np.random.default_rng(0), 0
    for _ in range(20):
        result, moved, labels = geometry.augment(picture, boxes, np.array([4]), (96, 160), rng, "both")
        assert result.shape == (96, 160, 3) and result.dtype == np.uint8 and moved.shape == (len(labels), 4)
        red = np.argwhere((result[..., 0].astype(int) - result[..., 1]) > 60)
        if len(moved):
            seen += 1
            np.testing.assert_allclose([*red.min(0)[::-1], *(red.max(0)[::-1] + 1)], moved[0], atol=2)
    assert seen > 10


def test_a_large_photograph_is_averaged_not_sampled():
    """A fine chequerboard is grey from afar."""
    picture = (np.indices((960, 1280)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    small, _ = geometry.letterbox(picture, (96, 128))
    assert abs(small.astype(int) - 128).max() < 8


def test_pictures_without_boxes_augment():
    picture = np.zeros((50, 60, 3), np.uint8)
    _, boxes, labels = geometry.augment(picture, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (96, 96),
                                        np.random.default_rng(0))
    assert boxes.shape == (0, 4) and labels.shape == (0,)


def test_example_folders(tmp_path, drawn):
    train, val = load_boxes(example.example_folder(tmp_path, tmp_path / "none.tar"))
    assert (len(train), len(val)) == (30, 10) and train.class_names == ("disc", "square")
    with tarfile.open(tmp_path / "cells.tar", "w") as tar:
        tar.add(drawn, arcname=".")
        tar.add(drawn / "train.txt", arcname="../outside.txt")
    for _ in range(2):
        folder = example.example_folder(tmp_path / "new", tmp_path / "cells.tar")
        assert folder == tmp_path / "new" / "cells" and len(load_boxes(folder)[0]) == 7
    assert not list(tmp_path.rglob("outside.txt"))
