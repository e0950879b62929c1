import copy
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import paddle
import pytest
from pictures import COLOURS, colours, draw
from PIL import Image

from paddle_fasternet.data import Augment, ImageFolder, ImageSet, Loader, load_dataset, load_folder, read_image
from paddle_fasternet.data.folder import Cache
from paddle_fasternet.data.recorded import describe_files, is_recorded, load_recorded


def test_subfolders_are_classes_by_the_alphabet(tmp_path):
    images = load_folder(colours(tmp_path / "photos"))
    assert images.class_names == ("blue", "green", "red") and images.name == "photos"
    assert np.bincount(images.labels).tolist() == [4, 5, 6] and images.labels.dtype == np.int64
    assert len(images.mean) == len(images.std) == 3 == images.channels
    assert [os.path.basename(os.path.dirname(file)) for file in images.files[[0, 4, 9]]] == ["blue", "green", "red"]
    assert images.sizes[1].tolist() == [35, 43]  # height, width
    picture, label = images[9]
    assert picture.dtype == np.uint8 and picture.shape == (3, 34, 40) and label == 2
    assert np.abs(picture.mean((1, 2)) - COLOURS["red"]).max() < 10  # RGB, not BGR


def test_slices_and_arrays_are_sets(tmp_path):
    images = load_folder(colours(tmp_path / "photos"))
    for index in (slice(2, 5), np.array([2, 3, 4]), np.arange(15) // 3 == 9 // 10 * 9, [2, 3, 4]):
        some = images[index]
        assert isinstance(some, ImageFolder) and some.class_names == images.class_names
        np.testing.assert_array_equal(some.files, images.files[index])
    with pytest.raises(ValueError, match="chooses none of the 15 pictures"):
        images[3:3]
    with pytest.raises(IndexError, match="image 15 of 15"):
        images[15]
    assert len(list(images)) == 15


def test_class_names_give_the_order_and_may_have_no_picture(tmp_path):
    folder = colours(tmp_path / "photos")
    images = load_folder(folder, ["red", "yellow", "green", "blue"])
    assert images.class_names[1] == "yellow" and np.bincount(images.labels).tolist() == [6, 0, 5, 4]
    with pytest.raises(ValueError, match="has the class 'blue', which is not among the 2 class names"):
        load_folder(folder, ["red", "green"])
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    assert load_folder(folder, tmp_path / "names.txt").class_names == ("red", "green", "blue")


@pytest.mark.parametrize("crop", [0, 0.3])
def test_pixels_are_squares_of_the_right_pictures(tmp_path, crop):
    images = load_folder(colours(tmp_path / "photos"))
    batch = images.pixels([0, 14, 5], 16, crop, np.random.default_rng(0))
    assert batch.shape == (3, 3, 16, 16) and batch.dtype == np.uint8
    for square, name in zip(batch, ("blue", "red", "green")):
        assert np.abs(square.mean((1, 2)) - COLOURS[name]).max() < 15


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "webp", "tif", "gif", "JPEG"])
def test_a_central_square_is_what_read_image_gives(tmp_path, ending):
    draw(tmp_path / "photos/a" / f"1.{ending}", size=(50, 40))
    draw(tmp_path / "photos/b" / f"1.{ending}", size=(40, 44))
    images = load_folder(tmp_path / "photos")
    for i in range(2):
        np.testing.assert_array_equal(images.pixels([i], 40)[0], read_image(images.files[i]))


def test_large_jpegs_are_decoded_small_and_look_the_same(tmp_path):
    y, x = np.mgrid[:800, :1000]
    pixels = np.stack([x / 4, y / 4, (x + y) / 8], axis=-1).astype(np.uint8)
    for name, options in (("a", {}), ("b", {"exif": Image.Exif()})):
        (tmp_path / "photos" / name).mkdir(parents=True)
        if options:
            options["exif"][0x0112] = 6  # to be turned by 90 degrees
        Image.fromarray(pixels).save(tmp_path / "photos" / name / "1.jpg", quality=95, **options)
    images = load_folder(tmp_path / "photos")
    assert images.sizes.tolist() == [[800, 1000], [1000, 800]]
    for i, picture in enumerate((pixels, np.rot90(pixels, -1))):
        expected, _ = Augment("none", 50, (0,), (1,))(picture.transpose(2, 0, 1)[None], None, None)
        assert np.abs(images.pixels([i], 50)[0] - expected[0]).max() < 4
        whole, _ = images[i]
        assert np.abs(whole.astype(int) - picture.transpose(2, 0, 1)).max() < 12
        for seed in range(5):  # crops at a reduced scale come from the same place
            crops = [np.random.default_rng(seed) for _ in range(2)]
            small = images.pixels([i], 20, 0.2, crops[0])[0]
            large = images.pixels([i], 300, 0.2, crops[1])[0]
            assert np.abs(small.mean((1, 2)) - large.mean((1, 2))).max() < 3


def test_every_mode_becomes_rgb(tmp_path):
    for mode, colour in [("L", 100), ("RGB", (100,) * 3), ("RGBA", (100, 100, 100, 255)), ("1", 1), ("P", 3),
                         ("I;16", 25700), ("LA", (100, 255))]:
        path = tmp_path / "photos" / "a" / f"{mode.replace(';', '')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (20, 30), colour).save(path)
    Image.new("CMYK", (20, 30), (0, 0, 0, 155)).save(tmp_path / "photos/a/cmyk.jpg")
    Image.new("L", (20, 30), 100).save(tmp_path / "photos/a/grey.jpg")
    images = load_folder(tmp_path / "photos")
    assert len(images) == 9
    for file, square in zip(images.files, images.pixels(slice(None), 20)):
        expected = {"1": 255, "P": square[0, 0, 0]}.get(os.path.basename(file).split(".")[0], 100)
        assert np.abs(square.astype(int) - expected).max() <= 2, file


def test_what_is_no_picture_is_passed_over_and_what_cannot_be_read_is_named_in_one_line(tmp_path, capsys):
    folder = colours(tmp_path / "photos")
    whole = (folder / "red/0.jpg").read_bytes()
    draw(folder / "red/deep/er/7.PNG")
    for name, content in [("red/notes.txt", b"text"), (".git/a.jpg", whole), ("red/.hidden.jpg", whole),
                          ("__MACOSX/red/._0.jpg", b"x"), ("red/.thumbs/0.jpg", whole), ("red/Thumbs.db", b"x"),
                          ("blue/cut.jpg", whole[:-200]), ("blue/empty.png", b""), ("green/text.webp", b"hello"),
                          ("green/phone.heic", b"\0\0\0\x18ftypheic")]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    os.symlink("nowhere.jpg", folder / "red/broken.jpg")
    os.mkfifo(folder / "red/pipe.jpg")
    os.symlink(folder, folder / "red/circle")
    os.symlink("self", folder / "red/self")
    images = load_folder(folder)
    assert images.class_names == ("blue", "green", "red") and np.bincount(images.labels).tolist() == [4, 5, 7]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "6 of 22 pictures cannot be read and are left out: " in said
    for name in ("blue/cut.jpg (cut off or damaged)", "blue/empty.png (empty)", "red/broken.jpg (a link to nowhere)"):
        assert name in said


def test_a_whole_file_with_something_after_its_end_is_read(tmp_path, capsys):
    folder = colours(tmp_path / "photos")
    with open(folder / "red/0.jpg", "ab") as file:
        file.write(b"\0" * 100 + b"trailer of a telephone" * 50)
    assert len(load_folder(folder)) == 15 and not capsys.readouterr().err


def test_linked_folders_count_as_classes(tmp_path):
    colours(tmp_path / "elsewhere")
    (tmp_path / "photos").mkdir()
    for name in ("red", "blue"):
        os.symlink(tmp_path / "elsewhere" / name, tmp_path / "photos" / name)
    assert np.bincount(load_folder(tmp_path / "photos").labels).tolist() == [4, 6]


def test_names_in_chinese_and_composed_differently(tmp_path):
    draw(tmp_path / "照片/train/猫/一 只.jpg")
    draw(tmp_path / "照片/train/cafe\u0301/1.jpg")
    draw(tmp_path / "照片/val/猫/二.jpg")
    draw(tmp_path / "照片/val/caf\u00e9/1.jpg")
    train, test = load_dataset(tmp_path / "照片")
    assert train.class_names == test.class_names == ("caf\u00e9", "猫") and train.name == "照片"
    assert train.pixels([0, 1], 8).shape == (2, 3, 8, 8)


def test_empty_classes_and_pictures_beside_the_classes(tmp_path, capsys):
    folder = colours(tmp_path / "photos")
    (folder / "violet").mkdir()
    draw(folder / "beside.jpg")
    (folder / "Red").mkdir()
    draw(folder / "Red/1.jpg")
    assert load_folder(folder).class_names == ("Red", "blue", "green", "red")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and "1 pictures lie beside the folders of the classes and are left out: beside.jpg" in said[0]
    assert "1 classes have no picture and are left out: violet" in said[1]
    assert "capital letters count as different ones: Red and red" in said[2]


def test_thousands_of_classes(tmp_path):
    for i in range(2000):
        (tmp_path / "photos" / f"{i:04}").mkdir(parents=True)
    picture = draw(tmp_path / "1.jpg")
    for i in range(2000):
        os.link(picture, tmp_path / "photos" / f"{i:04}" / "1.jpg")
    assert load_folder(tmp_path / "photos").labels.tolist() == list(range(2000))


def test_a_folder_within_a_folder_is_opened(tmp_path):
    colours(tmp_path / "photos/photos")
    assert load_folder(tmp_path / "photos").class_names == ("blue", "green", "red")


@pytest.mark.parametrize(("make", "message"), [
    (lambda folder: draw(folder / "1.jpg"), "its 1 pictures lie in no class; expected is a subfolder for each class"),
    (lambda folder: (folder / "cat").mkdir(), "there are no pictures in its subfolders; expected"),
    (lambda folder: None, "there are no pictures in its subfolders"),
    (lambda folder: draw(folder / "cat/1.jpg"), "only one class, 'cat', and nothing to tell it from; expected"),
    (lambda folder: (draw(folder / "a/1.jpg"), draw(folder / "b/1.jpg")), "one picture in each class"),
    (lambda folder: [(folder / name).mkdir() or (folder / name / "1.jpg").write_bytes(b"x") for name in "ab"],
     "has no picture that can be read"),
])
def test_folders_that_will_not_do(tmp_path, make, message):
    (tmp_path / "photos").mkdir()
    make(tmp_path / "photos")
    with pytest.raises(ValueError, match=message):
        load_dataset(str(tmp_path / "photos"))


def test_paths_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        load_folder(tmp_path / "photos")
    with pytest.raises(FileNotFoundError, match="no such folder, and no data set of that name"):
        load_dataset(str(tmp_path / "photos"))
    with pytest.raises(ValueError, match="goes with the name of a data set or a list of pictures"):
        load_dataset(colours(tmp_path / "photos"), "a.tar.gz")


@pytest.mark.parametrize("names", [("train", "val"), ("train", "validation"), ("Train", "Test")])
def test_a_folder_that_is_split_already(tmp_path, names):
    colours(tmp_path / "photos" / names[0])
    colours(tmp_path / "photos" / names[1], (2, 0, 3), seed=1)
    train, test = load_dataset(tmp_path / "photos")
    assert train.class_names == test.class_names == ("blue", "green", "red")
    assert (len(train), np.bincount(test.labels).tolist()) == (15, [3, 0, 2])
    draw(tmp_path / "photos" / names[1] / "violet/1.jpg")
    with pytest.raises(ValueError, match="has the class 'violet', which is not among the 3 class names"):
        load_dataset(tmp_path / "photos")


def test_train_may_be_a_class(tmp_path):
    for name in ("train", "car", "bus"):
        for i in range(3):
            draw(tmp_path / "photos" / name / f"{i}.jpg")
    assert load_dataset(tmp_path / "photos")[0].class_names == ("bus", "car", "train")


def test_a_folder_is_split_by_class_and_seed(tmp_path):
    folder = colours(tmp_path / "photos", (20, 10, 2))
    train, test = load_dataset(folder, val=0.2, seed=3)
    assert np.bincount(test.labels).tolist() == [1, 2, 4] and np.bincount(train.labels).tolist() == [1, 8, 16]
    assert not set(train.files) & set(test.files)
    again = load_dataset(str(folder), val=0.2, seed=3)[1]
    assert again.files.tolist() == test.files.tolist()
    assert load_dataset(folder, val=0.2, seed=4)[1].files.tolist() != test.files.tolist()
    for bad in (0, 1, -0.5):
        with pytest.raises(ValueError, match=f"val={bad}"):
            load_dataset(folder, val=bad)


def test_what_a_run_records_finds_the_pictures_again(tmp_path, capsys):
    folder = colours(tmp_path / "photos", (20, 10, 5))
    train, test = load_dataset(folder, seed=3)
    import json
    data = json.loads(json.dumps({"class_names": train.class_names, "train_images": len(train),
                                  "val_images": len(test), **describe_files(train, test)}))
    assert is_recorded(data)
    again = load_recorded(data)
    assert [part.files.tolist() for part in again] == [train.files.tolist(), test.files.tolist()]
    assert describe_files(*again) == describe_files(train, test) and not capsys.readouterr().err

    gone = test.names[0]
    (folder / gone).unlink()
    draw(folder / "red/new.jpg")
    shutil.move(folder, tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="no longer there; name their folder with --data"):
        load_recorded(data)
    assert is_recorded(data, tmp_path / "moved") and not is_recorded(data, colours(tmp_path / "other", (2, 2, 2)))
    more, fewer = load_recorded(data, tmp_path / "moved")
    assert fewer.names == test.names[1:]  # nothing of the test's became training
    assert sorted(more.names) == sorted([*train.names, "red/new.jpg"])
    said = capsys.readouterr().err
    assert f"1 of {len(test)} pictures of the run are no longer there, such as {gone}" in said
    assert f"{len(train) + 1} pictures for training; when the run began there were {len(train)}" in said


@pytest.mark.parametrize("separator", ["\t", " "])
def test_lists_as_paddleclas_has_them(tmp_path, separator):
    colours(tmp_path / "data/jpg")
    lines = [f"jpg/{name}/{i}.jpg{separator}{label}" for label, name in enumerate(COLOURS) for i in range(4)]
    for name, chosen in (("train_list.txt", lines[::2]), ("val_list.txt", lines[1::2])):
        (tmp_path / "data" / name).write_text("\n".join(chosen) + "\n")
    for source in (tmp_path / "data", tmp_path / "data/train_list.txt"):
        train, test = load_dataset(source)
        assert (len(train), len(test)) == (6, 6) and train.class_names == ("0", "1", "2")
        assert np.abs(test.pixels([5], 8)[0].mean((1, 2)) - COLOURS["blue"]).max() < 15
    names = tmp_path / "names.txt"
    names.write_text("0 deep red\n1 green\n2 blue\n")
    assert load_folder(tmp_path / "data/val_list.txt", names).class_names == ("deep red", "green", "blue")
    assert load_dataset(tmp_path / "data/train_list.txt", names)[1].class_names[0] == "deep red"
    shutil.copy(names, tmp_path / "data/label_list.txt")
    train, test = load_dataset(tmp_path / "data")
    assert train.class_names == test.class_names == ("deep red", "green", "blue")
    assert [part.files.tolist() for part in load_recorded({
        "class_names": train.class_names, "train_images": 6, "val_images": 6, **describe_files(train, test)})] == [
            train.files.tolist(), test.files.tolist()]


def test_a_list_with_names_and_spaces_and_missing_files(tmp_path, capsys):
    draw(tmp_path / "a picture.jpg")
    draw(tmp_path / "b.jpg")
    (tmp_path / "all.txt").write_text("\ufeffa picture.jpg dog\nb.jpg cat\n\nmissing.jpg cat\n", encoding="utf-8")
    images = load_folder(tmp_path / "all.txt")
    assert images.class_names == ("cat", "dog") and images.labels.tolist() == [1, 0] and images.name == "all"
    assert "1 of 3 pictures cannot be read and are left out: missing.jpg (not there)" in capsys.readouterr().err
    for content, message in [("a.jpg", "line 1, 'a.jpg', is not a path and a label"), ("\n", "has no lines"),
                             ("b.jpg 3\nb.jpg -1x", "no picture|not")]:
        (tmp_path / "all.txt").write_text(content)
        if "3" not in content:
            with pytest.raises(ValueError, match=message):
                load_folder(tmp_path / "all.txt")
    (tmp_path / "all.txt").write_text("b.jpg 3")
    with pytest.raises(ValueError, match="has the label 3, but there are 2 class names"):
        load_folder(tmp_path / "all.txt", ["a", "b"])


def test_batches_depend_on_seed_epoch_and_number_alone_whatever_is_in_the_cache(tmp_path):
    folder = colours(tmp_path / "photos")
    augment = Augment("crop=0.3,flip,shift=2,jitter,rotate,cutout,mixup", 16, (9,), (3,), num_classes=3)

    def batches(cache_mb, workers, start=0, epochs=(1, 2)):
        loader = Loader(load_folder(folder, cache_mb=cache_mb), 4, augment, shuffle=True, seed=5, workers=workers)
        return [(x.numpy(), y.numpy()) for epoch in epochs for x, y in loader.epoch(epoch, start)]

    expected = batches(0, 0)
    assert len(expected) == 8 and expected[0][0].shape == (4, 3, 16, 16)
    for cache_mb, workers in ((100, 2), (0.01, 3)):
        for (x, y), (x2, y2) in zip(expected, batches(cache_mb, workers)):
            np.testing.assert_array_equal(x, x2)
            np.testing.assert_array_equal(y, y2)
    np.testing.assert_array_equal(batches(100, 2, start=2, epochs=(1,))[0][0], expected[2][0])


def test_the_cache_keeps_to_its_bound(tmp_path):
    images = load_folder(colours(tmp_path / "photos"), cache_mb=0.02)
    for seed in range(3):
        images.pixels(slice(None), 16, 0.3, np.random.default_rng(seed))
        images.pixels(slice(None), 16)
    assert 0 < images.cache.used <= 0.02 * 2**20
    assert sum(picture.nbytes for picture in images.cache.pictures.values()) == images.cache.used
    assert images[::2].cache is images.cache  # one bound for all parts of a set
    for other in (pickle.loads(pickle.dumps(images)), copy.deepcopy(images)):
        assert other.cache.used == 0 and other.cache.megabytes == 0.02
        np.testing.assert_array_equal(other.pixels([3], 8), images.pixels([3], 8))
    cache = Cache(1)
    cache._lock.acquire()  # as a fork in the middle of keeping leaves it
    cache.keep("a", np.zeros(8))
    assert not cache.pictures


def test_a_picture_that_turns_out_damaged_is_named_once_and_replaced_by_the_next_of_its_class(tmp_path, capsys):
    images = load_folder(colours(tmp_path / "photos"), cache_mb=0)
    first, _ = images[9]
    (tmp_path / "photos/red/0.jpg").write_bytes(b"gone")
    expected, _ = images[10]
    for _ in range(2):
        np.testing.assert_array_equal(images[9][0], expected)
        assert np.abs(images.pixels([9], 8)[0].mean((1, 2)) - COLOURS["red"]).max() < 15
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "red/0.jpg cannot be read" in said and "stands in for it" in said
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(OSError, match="is the disk still there"):
        images.pixels([9], 8)


def test_paddles_own_loader_takes_both_kinds(tmp_path):
    folder = load_folder(colours(tmp_path / "photos"))
    memory = ImageSet(np.zeros((5, 3, 8, 8), np.uint8), np.arange(5) % 2, "ab")
    for images, batch in ((folder, 1), (memory, 2)):
        batches = list(paddle.io.DataLoader(images, batch_size=batch))
        assert sum(len(labels) for _, labels in batches) == len(images)
        assert batches[0][0].dtype == paddle.uint8 and batches[0][0].shape[1] == 3
    # workers are forked, which is safe only where no other test has left threads
    code = (f"import paddle, paddle_fasternet as pf; images = pf.load_folder({str(tmp_path / 'photos')!r}); "
            "print(sum(len(y) for _, y in paddle.io.DataLoader(images, batch_size=1, num_workers=2)), end='')")
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout == "15", result.stderr


def test_pictures_of_many_sizes_need_one(tmp_path):
    images = load_folder(colours(tmp_path / "photos"))
    with pytest.raises(ValueError, match="give an image_size"):
        list(Loader(images, 4))
    with pytest.raises(ValueError, match="needs rng"):
        Augment("crop", 8).batch(images, [0])


def test_repr_is_one_line(tmp_path):
    images = load_folder(colours(tmp_path / "photos"))
    assert repr(images).startswith("ImageFolder('photos', 15 pictures, 3 classes, ") and "\n" not in repr(images)
