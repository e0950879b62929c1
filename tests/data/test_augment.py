import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_fasternet.data import AUGMENTATIONS, PRESETS, Augment, parse_augment
from paddle_fasternet.data.augment import resize


def some(n=6, size=8, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8), rng.integers(0, 4, n)


def raw(spec, size=None):
    """An Augment whose output stays in 0..255."""
    return Augment(spec, size, mean=(0,), std=(1,), num_classes=4)


def test_none_normalises_and_leaves_the_input():
    images, labels = some()
    before = images.copy()
    x, same = Augment("none", None, (10, 20, 30), (2, 4, 5))(images, labels, None)
    expected = (images - np.array([10, 20, 30])[:, None, None]) / np.array([2, 4, 5])[:, None, None]
    np.testing.assert_allclose(x, expected, rtol=1e-6)
    assert x.dtype == np.float32 and x.flags.c_contiguous
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(same, labels)


def test_flip_mirrors_or_leaves():
    images, labels = some(40)
    x, _ = raw("flip")(images, labels, np.random.default_rng(0))
    flipped = [(a == b[:, :, ::-1]).all() for a, b in zip(x, images)]
    kept = [(a == b).all() for a, b in zip(x, images)]
    assert all(f != k for f, k in zip(flipped, kept)) and 10 < sum(flipped) < 30
    np.testing.assert_array_equal(raw("flip=1")(images, labels, np.random.default_rng(0))[0], images[..., ::-1])


def test_shift_reflects_the_border():
    images, labels = some(60, size=6)
    x, _ = raw("shift=2")(images, labels, np.random.default_rng(0))
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    seen = set()
    for image, source in zip(x, padded):
        places = [(i, j) for i in range(5) for j in range(5) if (image == source[:, i:i + 6, j:j + 6]).all()]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 15  # of 25


def test_jitter_of_a_grey_image_changes_brightness_alone():
    images = np.full((50, 3, 4, 4), 100, np.uint8)
    x, _ = raw("jitter=0.2")(images, np.zeros(50, int), np.random.default_rng(0))
    level = x.mean((1, 2, 3))
    np.testing.assert_allclose(x, np.broadcast_to(level[:, None, None, None], x.shape), rtol=1e-5)
    assert level.min() > 79.9 and level.max() < 120.1 and level.std() == pytest.approx(11.5, rel=0.2)


def test_jitter_by_hand():
    """One image, with the three factors that the generator gives."""
    images, labels = some(1)
    b, c, s = (float(f) for f in np.random.default_rng(5).uniform(0.5, 1.5, (3, 1, 1, 1, 1)).ravel())
    grey = lambda x: np.tensordot([0.299, 0.587, 0.114], x, 1)  # noqa: E731
    x = images[0] * b
    x = grey(x).mean() * (1 - c) + c * x
    x = grey(x) * (1 - s) + s * x
    result, _ = raw("jitter=0.5")(images, labels, np.random.default_rng(5))
    np.testing.assert_allclose(result[0], np.clip(x, 0, 255), rtol=1e-4, atol=1e-3)


def test_crop_of_everything_is_resizing():
    images, labels = some()
    x, _ = raw("crop=1.0", 16)(np.full_like(images, 77), labels, np.random.default_rng(0))
    assert x.shape == (6, 3, 16, 16) and np.allclose(x, 77)


def test_crop_areas_and_aspects():
    from paddle_fasternet.data.draws import crop_boxes
    boxes = np.array(crop_boxes(4000, 100, 100, 0.25, np.random.default_rng(0)))
    top, left, h, w = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= 100).all() and (left + w <= 100).all()
    area, aspect = h * w / 1e4, w / h
    assert area.min() > 0.24 and area.mean() == pytest.approx(0.62, abs=0.02)
    assert aspect.min() > 0.73 and aspect.max() < 1.37


def test_rotation_turns_about_the_centre_and_blackens_corners():
    images = np.full((8, 3, 33, 33), 200, np.uint8)
    x, _ = Augment("rotate=45", None, (50,), (10,))(images, np.zeros(8, int), np.random.default_rng(0))
    assert np.allclose(x[:, :, 16, 16], 15)  # (200 - 50) / 10
    assert np.isclose(x.min(), -5)  # black, normalised
    dot = np.zeros((1, 1, 33, 33), np.uint8)
    dot[0, 0, 16, 26] = 255
    for seed in range(5):
        turned, _ = Augment("rotate=90", None, (0,), (1,))(dot, np.zeros(1, int), np.random.default_rng(seed))
        y, x_ = np.unravel_index(turned[0, 0].argmax(), (33, 33))
        assert np.hypot(y - 16, x_ - 16) == pytest.approx(10, abs=1)


def test_cutout_erases_one_square_to_the_mean():
    images = np.full((30, 3, 16, 16), 200, np.uint8)
    x, _ = Augment("cutout=0.5", None, (100,), (1,))(images, np.zeros(30, int), np.random.default_rng(0))
    assert set(np.unique(x)) == {0.0, 100.0}
    for image in x[:, 0] == 0:
        rows, columns = image.any(1), image.any(0)
        assert (image == np.outer(rows, columns)).all() and 1 <= rows.sum() <= 8 and 1 <= columns.sum() <= 8


def test_mixup_mixes_images_and_labels_alike():
    # images that say their label: label 0 is black, label 1 white
    labels = np.arange(12) % 2
    images = np.repeat(labels, 3 * 16).reshape(12, 3, 4, 4).astype(np.uint8)
    x, target = raw("mixup=1")(images, labels, np.random.default_rng(0))
    np.testing.assert_allclose(x.mean((1, 2, 3)), target[:, 1], atol=1e-6)
    np.testing.assert_allclose(target.sum(1), 1, atol=1e-6)
    assert ((target > 0.01) & (target < 0.99)).any()


def test_cutmix_pastes_boxes_and_shares_labels_by_area():
    labels = np.arange(30) % 2
    images = np.repeat(labels, 3 * 64).reshape(30, 3, 8, 8).astype(np.uint8)
    x, target = raw("cutmix")(images, labels, np.random.default_rng(0))
    assert set(np.unique(x)) <= {0.0, 1.0}
    np.testing.assert_allclose(x.mean((1, 2, 3)), target[:, 1], atol=1e-6)


def test_both_mixes_take_turns():
    images, labels = some()
    augment = raw("mixup,cutmix")
    kinds = set()
    for seed in range(20):
        x, _ = augment(np.full_like(images, 3) * (labels[:, None, None, None] % 2).astype(np.uint8), labels,
                       np.random.default_rng(seed))
        kinds.add(bool(np.isin(x, (0, 3)).all()))
    assert kinds == {True, False}


def test_the_layout_of_the_set_does_not_matter():
    images, labels = some(6, 16)
    turned = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not turned.flags.c_contiguous
    for spec in ("none", "flip,shift=2,jitter,crop,rotate,cutout,mixup", "cutmix"):
        expected, got = (raw(spec, 16)(x, labels, np.random.default_rng(0))[0] for x in (images, turned))
        np.testing.assert_array_equal(expected, got)
        assert got.flags.c_contiguous


def test_crops_downwards_average_as_evaluation_does():
    noise = np.random.default_rng(0).integers(0, 256, (4, 3, 128, 128), dtype=np.uint8)
    plain, cropped = (raw(spec, 16)(noise, np.zeros(4, int), np.random.default_rng(0))[0]
                      for spec in ("none", "crop=1"))
    assert cropped.std() == pytest.approx(plain.std(), rel=0.3)  # every pixel averages 64; untreated it is 8 times that


def test_resize():
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    np.testing.assert_allclose(resize(x, 2)[0, 0], [[2.5, 4.5], [10.5, 12.5]])  # averages downwards
    up = resize(x, 8)[0, 0]
    assert up[0, 0] == 0 and up[-1, -1] == 15 and up[3, 3] == pytest.approx(6.25)  # a quarter before the middle
    assert resize(x, 4) is x


@settings(deadline=None, max_examples=60)
@given(names=st.sets(st.sampled_from([*AUGMENTATIONS]), max_size=8), size=st.sampled_from([None, 5, 8, 20, 40]),
       channels=st.sampled_from([1, 3]), n=st.integers(1, 5), seed=st.integers(0, 1000))
def test_any_combination_gives_what_it_promises(names, size, channels, n, seed):
    names -= {"altflip"} if "flip" in names else set()  # it is instead of the other
    images, labels = some(n, 8, channels, seed)
    before = images.copy()
    augment = Augment(",".join(names), size, (120,), (60,), num_classes=4)
    x, target = augment(images, labels, np.random.default_rng(seed))
    again, target_again = augment(images, labels, np.random.default_rng(seed))
    assert x.shape == (n, channels, size or 8, size or 8) and x.dtype == np.float32 and np.isfinite(x).all()
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(target, target_again)
    np.testing.assert_array_equal(images, before)
    if {"mixup", "cutmix"} & names:
        assert target.shape == (n, 4) and np.allclose(target.sum(1), 1, atol=1e-6)
    else:
        np.testing.assert_array_equal(target, labels)


def test_parse():
    assert parse_augment("flip,shift = 3 , cutout=0.5") == {"flip": 0.5, "shift": 3, "cutout": 0.5}
    assert parse_augment("none") == {} and parse_augment("") == {}
    assert parse_augment("notebook,cutout") == {**parse_augment(PRESETS["notebook"]), "cutout": 0.25}


@pytest.mark.parametrize(("text", "message"), [
    ("flpi", "augment='flpi' is not known; did you mean 'flip'"),
    ("shift=a", "augment='shift=a': 'a' is not a number"),
    ("flip=2", "augment flip=2.0 must be a number >= 0.0 and <= 1.0"),
    ("mixup=0", "augment mixup=0.0 must be a number >= 0.01"),
    ("crop=nan", "augment crop=nan"),
    ("standard=3", "standard is a preset and takes no strength"),
    ("altflip=0.5", "augment altflip=0.5 must be a number >= 1 and <= 1"),
    ("standard,altflip", "augment='standard,altflip': altflip is instead of flip; leave one out"),
])
def test_bad_specifications(text, message):
    with pytest.raises(ValueError, match=message):
        parse_augment(text)
    with pytest.raises(ValueError, match=message.replace("augment", "final_augment")):
        parse_augment(text, "final_augment")


def test_altflip_mirrors_those_that_it_is_told():
    images, labels = some(6)
    mirrored = np.array([True, False, True, True, False, False])
    x, _ = raw("altflip")(images, labels, np.random.default_rng(0), mirrored)
    expected = np.where(mirrored[:, None, None, None], images[..., ::-1], images)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(raw("none")(images, labels, None, mirrored)[0], images)  # only altflip looks at it


def test_bad_arguments():
    with pytest.raises(TypeError, match=r"augment=\['flip'\] must be a text"):
        parse_augment(["flip"])
    with pytest.raises(ValueError, match="mixes labels: give num_classes"):
        Augment("mixup")
    with pytest.raises(ValueError, match="std="):
        Augment("none", std=(0,))
    images, labels = some()
    with pytest.raises(TypeError, match="float64 must be a uint8 array"):
        raw("none")(images / 255, labels, None)
    with pytest.raises(ValueError, match="random augmentation needs rng"):
        raw("flip")(images, labels, None)
    with pytest.raises(ValueError, match="8 x 6 pixels are not square: give image_size"):
        raw("none")(images[..., :6], labels, None)
    with pytest.raises(ValueError, match="label 9 is outside num_classes=4"):
        raw("mixup")(images, labels * 0 + 9, np.random.default_rng(0))
    with pytest.raises(ValueError, match="must be finite"):
        Augment("none", mean=(float("nan"),))
    with pytest.raises(ValueError, match="image_size=0"):
        Augment("none", 0)
    with pytest.raises(ValueError, match=r"shift=8 must be smaller than the image \(8 x 8"):
        raw("shift=8")(*some(), np.random.default_rng(0))
