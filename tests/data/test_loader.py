import threading

import numpy as np
import paddle
import pytest

from paddle_fasternet.data import Augment, ImageSet, Loader


def numbered(n=23):
    """Images whose every pixel is their number."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 3, 8, 8)).copy()
    return ImageSet(images, np.arange(n) % 4, "abcd")


RAW = Augment("none", None, (0,), (1,))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [10, 10, 3]), (True, [10, 10])])
def test_every_image_once_with_its_label(workers, drop_last, sizes):
    loader = Loader(numbered(), 10, RAW, shuffle=True, drop_last=drop_last, workers=workers)
    batches = list(loader)
    assert [len(x) for x, _ in batches] == sizes and len(loader) == len(sizes)
    seen = np.concatenate([x.numpy()[:, 0, 0, 0] for x, _ in batches]).astype(int)
    labels = np.concatenate([y.numpy() for _, y in batches])
    assert len(set(seen)) == sum(sizes)
    np.testing.assert_array_equal(labels, seen % 4)


def test_order_is_kept_without_shuffle_and_new_in_each_epoch_with_it():
    plain = Loader(numbered(), 23, RAW)
    assert next(iter(plain))[0][:, 0, 0, 0].tolist() == list(range(23))
    loader = Loader(numbered(), 23, RAW, shuffle=True, seed=1)
    first, second = (next(iter(loader))[0][:, 0, 0, 0].tolist() for _ in range(2))
    assert first != second and sorted(first) == list(range(23))


def test_a_batch_depends_on_seed_epoch_and_number_alone():
    augment = Augment("flip,shift=2,crop,rotate,jitter,cutout,mixup", 12, (9,), (3,), num_classes=4)

    def batches(workers, seed=3, epoch=2, start=0):
        loader = Loader(numbered(), 5, augment, shuffle=True, seed=seed, workers=workers)
        return [(x.numpy(), y.numpy()) for x, y in loader.epoch(epoch, start)]

    expected = batches(0)
    for same in (batches(2), batches(4)):
        for (x, y), (x2, y2) in zip(expected, same):
            np.testing.assert_array_equal(x, x2)
            np.testing.assert_array_equal(y, y2)
    rest = batches(2, start=3)
    assert len(rest) == 2
    np.testing.assert_array_equal(rest[0][0], expected[3][0])
    assert (batches(0, seed=4)[0][0] != expected[0][0]).any()
    assert (batches(0, epoch=3)[0][0] != expected[0][0]).any()


def test_leaving_early_leaves_no_thread():
    before = threading.active_count()
    for _ in Loader(numbered(), 2, RAW, workers=3):
        break
    import gc
    gc.collect()
    assert threading.active_count() == before


def test_an_error_in_a_worker_reaches_the_caller():
    loader = Loader(numbered(), 5, Augment("shift=9"), workers=2)
    with pytest.raises(ValueError, match="shift=9 must be smaller"):
        list(loader)


def test_tensors_survive_the_next_batch():
    kept = [x for x, _ in Loader(numbered(40), 10, RAW)]
    assert [x[0, 0, 0, 0].item() for x in kept] == [0, 10, 20, 30]
    assert all(isinstance(x, paddle.Tensor) and x.dtype == paddle.float32 for x in kept)


@pytest.mark.parametrize("seed", [0, 1])
def test_altflip_mirrors_each_image_in_every_second_epoch(seed):
    pixels = np.zeros((50, 3, 4, 4), np.uint8)
    pixels[..., :2] = 200  # the left half
    loader = Loader(ImageSet(pixels, np.arange(50) % 2, ("a", "b"), "halves", "made"), 7,
                    Augment("altflip", mean=(0,), std=(1,)), shuffle=False, seed=seed)
    mirrored = [paddle.concat([x for x, _ in loader])[:, 0, 0, 0].numpy() == 0 for _ in range(4)]
    assert 10 < mirrored[0].sum() < 40  # about half of them, and not the same for every seed
    for epoch in (1, 2, 3):
        np.testing.assert_array_equal(mirrored[epoch], mirrored[0] ^ (epoch % 2 == 1))
    again = paddle.concat([x for x, _ in loader.epoch(1)])[:, 0, 0, 0].numpy() == 0  # as a run that is resumed does
    np.testing.assert_array_equal(again, mirrored[1])


def test_default_normalisation_is_the_sets_own():
    x = paddle.concat([x for x, _ in Loader(numbered())])
    assert x.mean().item() == pytest.approx(0, abs=1e-5) and x.std(unbiased=False).item() == pytest.approx(1, abs=1e-5)


def test_bad_types():
    with pytest.raises(TypeError, match="images must be a ImageSet, not ndarray"):
        Loader(np.zeros((2, 3, 4, 4), np.uint8))
    with pytest.raises(TypeError, match="augment must be a Augment, not str"):
        Loader(numbered(), 4, "flip")


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"batch_size": 0}, "batch_size=0"), ({"seed": -1}, "seed=-1"), ({"workers": -1}, "workers=-1"),
    ({"batch_size": 24, "drop_last": True}, "batch_size=24 is more than the 23 images")])
def test_bad_values(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Loader(numbered(), **kwargs)
