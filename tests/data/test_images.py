"""Pictures of every kind: depths, modes, sources, channels."""
import io
import struct
import zlib

import cv2
import numpy as np
import paddle
import pytest
from PIL import Image, TiffImagePlugin

from paddle_fasternet import ImageSet, load_folder
from paddle_fasternet.data.images import as_pixels, fit_channels, read_image, read_picture

RAMP = np.arange(64, dtype=np.float64).reshape(8, 8) / 63  # black to white


def close(found, shares, most=1):
    """Whether the picture shows these shares of white, to ``most`` of 255."""
    return np.abs(found.astype(int) - np.rint(255 * shares)[..., None]).max() <= most


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_integers_of_every_depth_in_files_of_16_bits(tmp_path, bits, suffix, channels):
    pixels = np.rint(RAMP * (2**bits - 1)).astype(np.uint16)
    if channels > 1:
        pixels = np.dstack([pixels] * 3 + [np.full_like(pixels, 65535)] * (channels - 3))
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), pixels)
    assert close(read_picture(path), RAMP)
    assert close(read_picture(path.read_bytes()), RAMP)
    with Image.open(path) as image:
        assert close(read_picture(image), RAMP)


@pytest.mark.parametrize(("values", "shares"), [
    (RAMP.astype(np.float32), RAMP),
    ((RAMP / 4).astype(np.float32), RAMP / 4),  # dark, and within 0..1
    ((RAMP * 255).astype(np.float32), RAMP),
    ((RAMP * 3000 - 1000).astype(np.float32), RAMP),  # stretched
    ((RAMP * 1e-3 - 5e-4).astype(np.float32), RAMP),
    (np.rint(RAMP * 255).astype(np.int32), RAMP),
    (np.rint(RAMP * 4095).astype(np.int32), RAMP),
    (np.rint(RAMP * 4000 - 1000).astype(np.int32), RAMP),
    (np.rint(RAMP * 2**30).astype(np.int32), RAMP),
    (np.full((8, 8), 9000, np.uint16), np.full((8, 8), 9000 / 16383)),
    (np.full((8, 8), 25700, np.uint16), np.full((8, 8), 100 / 255)),
    (np.zeros((8, 8), np.float32), np.zeros((8, 8))),
])
def test_values_beyond_8_bits_in_memory_and_in_a_file(tmp_path, values, shares):
    image = Image.fromarray(values)
    assert close(read_picture(image), shares)
    image.save(tmp_path / "a.tif")
    assert close(read_picture(tmp_path / "a.tif"), shares)


def test_floats_that_are_not_finite_are_black():
    values = RAMP.astype(np.float32)
    values[3, :4] = np.nan, np.inf, -np.inf, 0.5
    found = read_picture(Image.fromarray(values))
    assert found[3, :3].max() == 0 and found[3, 3, 0] == 128 and found[-1, -1, 0] == 255


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("bits", [10, 12, None])
def test_what_a_png_declares(bits):
    """A dark picture of 12 bits stays dark if the file says that it has 12."""
    file = io.BytesIO()
    Image.fromarray(np.rint(RAMP * 1000).astype(np.uint16)).save(file, "PNG")
    content = file.getvalue()
    head = 8 + 25  # signature and IHDR
    if bits:
        content = content[:head] + chunk(b"sBIT", bytes([bits])) + content[head:]
    assert close(read_picture(content), RAMP * 1000 / (2**(bits or 10) - 1))
    full = io.BytesIO()
    Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)).save(full, "PNG")  # scaled up, as the PNG standard wants
    content = full.getvalue()
    assert close(read_picture(content[:head] + chunk(b"sBIT", b"\x0c") + content[head:]), RAMP)


def test_what_a_tiff_declares(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 4095  # MaxSampleValue
    Image.fromarray(np.rint(RAMP * 800).astype(np.uint16)).save(tmp_path / "dark.tif", tiffinfo=tags)
    assert close(read_picture(tmp_path / "dark.tif"), RAMP * 800 / 4095)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0  # white is zero, as many X-ray pictures have it
    Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)).save(tmp_path / "negative.tif", tiffinfo=tags)
    assert close(read_picture(tmp_path / "negative.tif"), 1 - RAMP)


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("top", [255, 4095])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_deep_pictures_are_turned_upright(tmp_path, suffix, top, orientation):
    shares, exif = RAMP[:, :5], Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.rint(shares * top).astype(np.uint8 if top == 255 else np.uint16)).save(
        tmp_path / f"a.{suffix}", exif=exif)
    found, brightest = read_picture(tmp_path / f"a.{suffix}"), shares.max()
    turned = np.rot90(shares, {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
    assert found.shape[:2] == turned.shape and brightest < 1 and close(found, turned)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I;16B", "PA"])
def test_every_mode_shows_white_and_black(mode):
    from PIL import ImageCms
    shares = np.repeat([[0.0, 1.0]], 2, axis=0)
    grey = Image.fromarray((255 * shares).astype(np.uint8))
    if mode == "LAB":
        image = ImageCms.profileToProfile(grey.convert("RGB"), ImageCms.createProfile("sRGB"),
                                          ImageCms.createProfile("LAB"), outputMode="LAB")
    elif mode == "I;16B":
        image = Image.frombytes(mode, (2, 2), (65535 * shares).astype(">u2").tobytes())
    elif mode == "PA":
        image = grey.convert("P").convert("PA")
    else:
        image = grey.convert(mode)
    assert image.mode == mode and close(read_picture(image), shares, most=2)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "mpo", "tif"])
def test_of_several_frames_the_first_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    assert np.abs(read_picture(tmp_path / f"a.{suffix}").astype(int) - [255, 0, 0]).max() < 5


def test_transparent_pictures_lie_on_white(tmp_path):
    half = np.zeros((4, 4, 4), np.uint8)
    half[..., 3] = 128
    for image in (Image.fromarray(half), half, paddle.to_tensor(half)):
        assert (as_pixels(image) == 127).all()
    palette = Image.fromarray(half[..., :3]).convert("P")
    palette.save(tmp_path / "a.gif", transparency=0)
    assert (read_picture(tmp_path / "a.gif") == 255).all()


def test_all_sources_are_one_picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    with open(path, "rb") as file:
        for source in (path, str(path), content, bytearray(content), memoryview(content), io.BytesIO(content), file,
                       file, Image.fromarray(pixels), pixels, paddle.to_tensor(pixels)):
            np.testing.assert_array_equal(as_pixels(source), pixels)
        assert not file.closed
    np.testing.assert_array_equal(read_image(content), read_image(path))


def test_grey_and_colour():
    colour = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3), np.uint8)
    grey = fit_channels(colour, 1)
    np.testing.assert_array_equal(grey[..., 0], np.rint(colour @ np.float32([0.299, 0.587, 0.114])))
    np.testing.assert_array_equal(fit_channels(fit_channels(grey, 3), 1), grey)  # there and back
    assert as_pixels(colour[0, ..., 0]).shape == (6, 5, 3) and as_pixels(colour[0], 1).shape == (6, 5, 1)


@pytest.mark.parametrize(("source", "error", "message"), [
    (b"", ValueError, "image of 0 bytes is not an image that can be read: its format is not known"),
    (io.BytesIO(b"text"), ValueError, "the BytesIO is not an image"),
    ("missing.png", FileNotFoundError, "missing.png: there is no such image file"),
    (np.zeros((3, 9, 9), np.uint8), ValueError, r"move the channels: images.transpose\(1, 2, 0\)"),
    (paddle.zeros([3, 9, 9], "uint8"), ValueError, r"move the channels: images.transpose\(1, 2, 0\)"),
    (paddle.zeros([9, 9, 3]), TypeError, "images of type float32 must be uint8"),
    (np.zeros((2, 9, 9, 3), np.uint8), ValueError, "among single images"),
    (np.zeros((0, 9), np.uint8), ValueError, "not empty"),
    (None, TypeError, "image of type NoneType must be a path, bytes, an open file, a PIL image, or uint8"),
])
def test_what_is_no_picture(source, error, message):
    with pytest.raises(error, match=message):
        as_pixels(source)


def test_deep_pictures_and_palettes_in_sets(tmp_path):
    (tmp_path / "a").mkdir()
    for number, channels in enumerate((1, 3)):
        pixels = np.rint(RAMP * 4095).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "a" / f"{number}.png"), np.dstack([pixels] * channels))
    found = load_folder(tmp_path)
    for number in range(2):
        assert close(found[number][0].transpose(1, 2, 0), RAMP)
    red = Image.new("RGB", (4, 4), "red").convert("P")
    assert ImageSet.from_dataset([(red, 0)]).images[0, :, 0, 0].tolist() == [255, 0, 0]
