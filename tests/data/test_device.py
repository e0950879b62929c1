"""Augmentation on Paddle's device equals the one by NumPy and OpenCV; on ``gpu_fake`` too, see tests/device."""
import cv2
import numpy as np
import paddle
import pytest

from paddle_fasternet.data import Augment
from paddle_fasternet.data.device import DeviceImages, augment
from paddle_fasternet.data.draws import draw


@pytest.fixture(scope="module", params=[3, 1], ids=["colour", "grey"])
def images(request):
    """Smooth pictures, as photographs are: at an edge of noise a rounded position would be another value."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 32, 32, request.param)).astype(np.float32)
    smooth = [cv2.GaussianBlur(image, (5, 5), 1.5).reshape(32, 32, -1) for image in noise]
    return np.stack(smooth).transpose(0, 3, 1, 2).round().astype(np.uint8)


@pytest.mark.parametrize("text, size", [
    ("none", 32), ("none", 24), ("none", 48), ("flip,shift=4", 32), ("flip=1,shift=31", 32), ("altflip,shift=2", 32),
    ("jitter=0.3", 32), ("crop=0.08", 32), ("crop=0.2", 16), ("crop=0.08,flip", 100), ("rotate=20", 32),
    ("rotate=180", 48), ("flip,shift=4,cutout", 32), ("crop=0.5,cutout=0.4", 40), ("mixup", 32), ("cutmix,cutout", 32),
    ("mixup,cutmix,flip", 40), ("crop=0.08,jitter=0.2,flip=0.5,rotate=20,mixup=0.2", 160)])
def test_equal_draws_give_equal_pictures(images, text, size):
    channels = images.shape[1]
    host = Augment(text, size, (120.0, 110.0, 100.0)[:channels], (60.0, 61.0, 62.0)[:channels], num_classes=4)
    labels = np.arange(len(images)) % 4
    for seed in (0, 1):
        expected, _ = host(images, labels, np.random.default_rng(seed))
        draws = draw(host.strength, len(images), 32, 32, size, np.random.default_rng(seed))
        found = augment(DeviceImages(images)[np.arange(len(images))], draws, host.mean, host.std, size).numpy()
        difference = np.abs(found - expected)
        if "rotate" in text:  # OpenCV 4 rounds the positions of a rotation to 1/32 pixel
            assert difference.mean() < 5e-3 and np.quantile(difference, 0.99) < 0.1
        else:
            assert difference.mean() < 1e-5 and difference.max() < 1e-4


def test_images_are_gathered_by_any_index(images):
    odd = images[:, :, :, :31]  # a row of bytes that is no multiple of four
    for index in ([3, 1, 1], np.array([0]), np.arange(12)[::-1]):
        found = DeviceImages(odd)[index]
        assert found.dtype == paddle.float32
        np.testing.assert_array_equal(found.numpy(), odd[index])
