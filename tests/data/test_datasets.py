import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from paddle_fasternet.data import ImageSet, get_cifar10_labels, load_dataset, read_image
from paddle_fasternet.data.known import cifar as module

BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def batch(rng, n=20):
    return {"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8), "labels": [int(i) for i in rng.integers(0, 10, n)],
            "batch_label": "a batch", "filenames": [f"{i}.png" for i in range(n)]}


def write_archive(path, change=lambda batches: None, pickled=lambda content: pickle.dumps(content, 2)):
    """A small archive in the official layout; returns its batches."""
    rng = np.random.default_rng(0)
    batches = {name: batch(rng) for name in BATCHES}
    change(batches)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in batches.items():
            data = content if isinstance(content, bytes) else pickled(content)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return batches


@pytest.fixture(autouse=True)
def no_machine(tmp_path, monkeypatch):
    """An empty home and working folder, and no network."""
    for name in ("home", "cwd"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PADDLE_FASTERNET_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(module.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_what_the_archive_holds(tmp_path, protocol):
    path = tmp_path / "any name"
    batches = write_archive(path, pickled=lambda content: pickle.dumps(content, protocol))
    train, test = load_dataset("cifar10", path)
    assert (len(train), len(test)) == (100, 20)
    np.testing.assert_array_equal(train.images[20:40].reshape(20, -1), batches["data_batch_2"]["data"])
    np.testing.assert_array_equal(test.labels, batches["test_batch"]["labels"])
    assert train.images.shape == (100, 3, 32, 32) and train.labels.dtype == np.int64
    assert train.class_names[3] == "cat" and "not the official archive" in train.source


def test_reads_the_unpacked_folder(tmp_path):
    write_archive(tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        for member in tar.getmembers():
            (tmp_path / "cifar-10-batches-py").mkdir(exist_ok=True)
            (tmp_path / member.name).write_bytes(tar.extractfile(member).read())
    for folder in (tmp_path, tmp_path / "cifar-10-batches-py"):
        assert len(load_dataset("cifar10", folder)[0]) == 100


def test_is_found_where_the_design_says(tmp_path, monkeypatch):
    cache = tmp_path / "home/.cache/paddle/dataset/cifar/cifar-10-python.tar.gz"
    mount = tmp_path / "cwd/data/data9154/cifar-10-python.tar.gz"
    named = tmp_path / "named.tar.gz"
    for path in (cache, mount, named):
        path.parent.mkdir(parents=True, exist_ok=True)
        sized = batch(np.random.default_rng(0), len(path.parts))
        write_archive(path, lambda batches, sized=sized: batches.update(test_batch=sized))
        if path == named:
            monkeypatch.setenv("PADDLE_FASTERNET_DATA", str(named))
        assert len(load_dataset("auto")[1]) == len(path.parts), path


def test_auto_says_that_it_takes_the_digits(capsys):
    train, test = load_dataset("auto")
    said = capsys.readouterr().err
    assert train.name == "digits" and said.count("\n") == 1 and "Taking the embedded handwritten digits" in said
    assert (len(train), len(test)) == (1437, 360) and train.images.shape[1:] == (3, 32, 32)
    assert np.bincount(test.labels, minlength=10).min() > 20 and train.images.max() == 255


def test_cifar10_never_falls_back(tmp_path):
    with pytest.raises(ConnectionError, match=r"cannot download http.*put the archive at .*or name it with data_file"):
        load_dataset("cifar10")
    assert not list((tmp_path / "home").rglob("*.part"))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An HTTP server on loopback, from whose folder the data set is downloaded."""
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        monkeypatch.setattr(module.CIFAR10, "url", f"http://127.0.0.1:{httpd.server_port}/cifar-10-python.tar.gz")
        yield folder
        httpd.shutdown()
        thread.join()


def test_download_is_verified_and_cached_whole_or_not_at_all(tmp_path, server, monkeypatch):
    import hashlib
    write_archive(server / "cifar-10-python.tar.gz")
    cache = tmp_path / "home/.cache/paddle/dataset/cifar"
    with pytest.raises(ConnectionError, match="has MD5 .* instead of c58f30108f718f92721af3b95e74349a"):
        load_dataset("cifar10")
    assert list(cache.iterdir()) == []
    digest = hashlib.md5((server / "cifar-10-python.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(module.CIFAR10, "md5", digest)
    assert "the official archive" in load_dataset("cifar10")[0].source
    assert [path.name for path in cache.iterdir()] == ["cifar-10-python.tar.gz"]
    (server / "cifar-10-python.tar.gz").unlink()
    assert len(load_dataset("cifar10")[0]) == 100  # out of the cache now


def drop(name):
    return lambda batches: batches.pop(name)


def alter(name, key, value):
    return lambda batches: batches[name].update({key: value})


@pytest.mark.parametrize(("change", "message"), [
    (drop("test_batch"), "it has no test_batch"),
    (drop("data_batch_3"), "it has no data_batch_3"),
    (alter("data_batch_1", "data", np.zeros((20, 3071), np.uint8)), r"data is not uint8 \[N, 3072\]"),
    (alter("data_batch_1", "data", np.zeros((20, 3072), np.float32)), r"data is not uint8 \[N, 3072\]"),
    (alter("data_batch_1", "labels", [0] * 19), "not one label for each image"),
    (alter("test_batch", "labels", [0] * 19 + [10]), "label outside the 10 classes"),
    (alter("test_batch", "labels", [0] * 19 + [-1]), "label outside the 10 classes"),
    (alter("test_batch", "labels", ["cat"] * 20), "label outside the 10 classes"),
    (lambda batches: batches.update(data_batch_2=pickle.dumps([1, 2], 2)), "no data and labels"),
    (lambda batches: batches.update(data_batch_2=b"not a pickle"), "not a readable CIFAR-10 archive"),
])
def test_an_archive_of_other_content(tmp_path, change, message):
    write_archive(tmp_path / "a.tar.gz", change)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset("auto", tmp_path / "a.tar.gz")
    assert "a.tar.gz is not a readable CIFAR-10 archive" in str(caught.value)


def test_a_damaged_archive(tmp_path):
    path = tmp_path / "a.tar.gz"
    write_archive(path)
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 255
    for content in (b"", b"\x1f\x8b", good[:len(good) // 2], good[:-6], bytes(flipped), b"plain text " * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="a.tar.gz is not a readable CIFAR-10 archive"):
            load_dataset("cifar10", path)


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_an_archive_that_would_run_code(tmp_path):
    write_archive(tmp_path / "a.tar.gz", lambda batches: batches["data_batch_4"].update(extra=Evil()))
    with pytest.raises(ValueError, match="system"):
        load_dataset("cifar10", tmp_path / "a.tar.gz")
    assert not (tmp_path / "cwd" / "executed").exists()


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="data_file='nowhere.tar.gz': there is no such file"):
        load_dataset("auto", "nowhere.tar.gz")
    monkeypatch.setenv("PADDLE_FASTERNET_DATA", "gone")
    with pytest.raises(FileNotFoundError, match=r"\$PADDLE_FASTERNET_DATA='gone'"):
        load_dataset()
    with pytest.raises(ValueError, match="name='cifar' is not known; did you mean 'cifar10'"):
        load_dataset("cifar")
    with pytest.raises(ValueError, match="the digits are embedded"):
        load_dataset("digits", "a.tar.gz")


def test_image_set():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    chosen = ImageSet(images, [0, 1, 2, 1, 0], ["a", "b", "c"])
    np.testing.assert_allclose(chosen.mean, images.mean((0, 2, 3)))
    np.testing.assert_allclose(chosen.std, images.std((0, 2, 3)), rtol=1e-10)
    assert len(chosen[1:3]) == 2 and chosen[1:3].labels.tolist() == [1, 2]
    assert ImageSet(images * 0, [0] * 5, ["a"]).std[0] > 0  # never divides by zero


@pytest.mark.parametrize(("images", "labels", "message"), [
    (np.zeros((2, 3, 4, 4)), [0, 0], "must be uint8"),
    (np.zeros((2, 4, 4), np.uint8), [0, 0], r"shape \(2, 4, 4\)"),
    (np.zeros((2, 4, 4, 4), np.uint8), [0, 0], "C 1 or 3"),
    (np.zeros((0, 3, 4, 4), np.uint8), [], "not empty"),
    (np.zeros((2, 3, 4, 4), np.uint8), [0], "labels of shape"),
    (np.zeros((2, 3, 4, 4), np.uint8), [0.0, 1.0], "must be integers"),
    (np.zeros((2, 3, 4, 4), np.uint8), [0, 2], "label 2 of image 1 is outside the 2 classes"),
    (np.zeros((2, 3, 4, 4), np.uint8), [-1, 1], "label -1 of image 0 is outside the 2 classes"),
])
def test_image_set_refuses(images, labels, message):
    with pytest.raises(ValueError, match=message):
        ImageSet(images, labels, ["a", "b"])


def write_cifar100(path, change=lambda members: None):
    rng = np.random.default_rng(0)
    members = {name: {"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8), "coarse_labels": [0] * n,
                      "fine_labels": [int(i) for i in rng.integers(0, 100, n)]}
               for name, n in (("train", 30), ("test", 12))}
    members["meta"] = {"fine_label_names": [f"class {i}" for i in range(100)], "coarse_label_names": ["all"]}
    change(members)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            data = pickle.dumps(content, 2)
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return members


def test_cifar100(tmp_path, monkeypatch):
    path = tmp_path / "any name"
    members = write_cifar100(path)
    train, test = load_dataset("cifar100", path)
    assert (len(train), len(test), train.name) == (30, 12, "cifar100")
    np.testing.assert_array_equal(test.images.reshape(12, -1), members["test"]["data"])
    np.testing.assert_array_equal(train.labels, members["train"]["fine_labels"])
    assert train.class_names[99] == "class 99" and "not the official archive" in train.source
    monkeypatch.setattr(module.CIFAR100, "url", "http://127.0.0.1:9/cifar-100-python.tar.gz")
    monkeypatch.setenv("PADDLE_FASTERNET_DATA", str(path))  # is taken for CIFAR-10's
    with pytest.raises(ConnectionError, match=r"put the archive at .*cifar-100-python.tar.gz"):
        load_dataset("cifar100")
    path = path.rename(tmp_path / "cifar-100-python.tar.gz")
    monkeypatch.setenv("PADDLE_FASTERNET_DATA", str(path))
    assert len(load_dataset("cifar100")[1]) == 12 and load_dataset("auto")[0].name == "digits"


@pytest.mark.parametrize(("change", "message"), [
    (drop("meta"), "it has no meta"),
    (alter("meta", "fine_label_names", ["a"] * 99), "meta has no list of 100 fine_label_names"),
    (alter("test", "fine_labels", [100] * 12), "label outside the 100 classes"),
    (alter("train", "extra", Evil()), "system"),
])
def test_a_cifar100_archive_of_other_content(tmp_path, change, message):
    write_cifar100(tmp_path / "a.tar.gz", change)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset("cifar100", tmp_path / "a.tar.gz")
    assert "a.tar.gz is not a readable CIFAR-100 archive" in str(caught.value)
    assert not (tmp_path / "cwd" / "executed").exists()


def test_the_table_of_data_sets():
    from paddle_fasternet import TrainConfig, list_datasets
    from paddle_fasternet.data import DATASETS
    assert list_datasets() == ["auto", "cifar10", "cifar100", "digits"]
    assert not DATASETS["digits"].mirror and DATASETS["cifar10"].mirror
    for entry in DATASETS.values():
        settings = dict(entry.demo)
        config = TrainConfig.recipe(settings.pop("recipe"), **settings) if "recipe" in settings else TrainConfig(
            **settings)
        assert entry.mirror or "flip" not in config.augment


class Pairs(list):
    """A data set as paddle.vision has them."""


def test_a_set_in_memory_out_of_a_data_set_of_paddle():
    from PIL import Image
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    labels = [2, 0, 1, 2]
    for images in (list(pixels), [Image.fromarray(image) for image in pixels], list(pixels.astype(np.float32))):
        found = ImageSet.from_dataset(Pairs(zip(images, [np.array([label]) for label in labels])))
        np.testing.assert_array_equal(found.images, pixels.transpose(0, 3, 1, 2))
        assert found.labels.tolist() == labels and found.class_names == ("0", "1", "2") and found.name == "pairs"
    grey = ImageSet.from_dataset(Pairs(zip(pixels[..., 0], labels)), class_names="abc", name="grey")
    assert grey.channels == 1 and grey.class_names == ("a", "b", "c") and grey.name == "grey"
    named = Pairs(zip(pixels, labels))
    named.classes = ["x", "y", "z"]
    assert ImageSet.from_dataset(named).class_names == ("x", "y", "z")


@pytest.mark.parametrize(("pairs", "message"), [
    ([(np.zeros((4, 4, 3), np.uint8), 0), (np.zeros((4, 5, 3), np.uint8), 0)], "load_folder takes pictures of many"),
    ([(np.zeros((3, 4, 4), np.uint8), 0)], "leave out a transform that moves the channels"),
    ([(np.full((4, 4, 3), 0.5), 0)], "leave out a transform that normalises"),
    ([np.zeros((4, 4, 3), np.uint8)], "is no pair of an image and an integer label"),
    ([], "not empty"),
])
def test_what_cannot_become_a_set_in_memory(pairs, message):
    with pytest.raises(ValueError, match=message):
        ImageSet.from_dataset(Pairs(pairs))


def test_cifar10_labels():
    import paddle
    assert get_cifar10_labels([3, 5]) == get_cifar10_labels(paddle.to_tensor([3, 5])) == ["cat", "dog"]
    for bad in ([10], [-1], [2.5]):
        with pytest.raises(ValueError, match="must be integers in 0..9"):
            get_cifar10_labels(bad)


def test_read_image(tmp_path):
    from PIL import Image
    pixels = np.random.default_rng(0).integers(0, 256, (10, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels[2:8].transpose(2, 0, 1))
    for mode in ("L", "RGBA", "P", "1", "CMYK", "I;16"):
        suffix = "tif" if mode == "CMYK" else "png"
        Image.new(mode, (5, 5)).save(tmp_path / f"b.{suffix}")
        assert read_image(tmp_path / f"b.{suffix}").shape == (3, 5, 5)
    turned = Image.fromarray(pixels[:6])
    turned.save(tmp_path / "c.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
                quality=100, subsampling=0)
    assert np.abs(read_image(tmp_path / "c.jpg").astype(int)
                  - np.rot90(pixels[:6], -1).transpose(2, 0, 1)).mean() < 25


def test_read_image_scales_16_bits_and_puts_transparency_on_white(tmp_path):
    from PIL import Image
    Image.fromarray(np.full((4, 4), 257 * 100, np.uint16)).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "deep.png") == 100).all()
    Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png") == 255).all()


def test_files_that_are_not_images(tmp_path):
    from PIL import Image
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    cut = (tmp_path / "a.png").read_bytes()[:-500]
    for name, content in [("empty.png", b""), ("text.png", b"hello"), ("cut.png", cut)]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is not an image that can be read"):
            read_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such image file"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(FileNotFoundError, match="no such image file"):
        read_image(tmp_path)


def test_an_image_set_by_index():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    images = ImageSet(pixels, [0, 1, 2, 1], "abc")
    for index in (2, -2, np.int64(2)):
        image, label = images[index]
        np.testing.assert_array_equal(image, pixels[2])
        assert label == 2 and type(label) is int
    assert [label for _, label in images] == [0, 1, 2, 1]  # iteration ends
    for index in (4, -5):
        with pytest.raises(IndexError, match="of 4"):
            images[index]
    for index in ("0", 1.5, None):
        with pytest.raises(TypeError, match="is indexed by integers, slices and arrays"):
            images[index]
    assert len(images[:2]) == len(images[np.array([0, 3])]) == 2
    with pytest.raises(TypeError, match="class_names=None must be a list"):
        ImageSet(images.images, images.labels, None)


def test_an_empty_data_file_is_not_passed_over():
    with pytest.raises(ValueError, match="data_file='' is no path"):
        load_dataset("cifar10", "")
