"""Random damage to every reference file: an error or a whole load, never a crash, half a change or a memory bomb.

FUZZ_COUNT=1000 in the environment sets how many damaged copies of each file are tried (150 by default).
"""
import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
from networks import RECORDED, RECORDED_LS

from paddle_fasternet.model import FasterNet
from paddle_fasternet.weights import load_weights

COUNT = int(os.environ.get("FUZZ_COUNT", 150))
TINY = {**RECORDED, "embed_act": True}
FILES = {"official_tiny.pth": TINY, "official_tiny_ls.pth": RECORDED_LS, "timm_tiny.pth": TINY,
         "timm_tiny.safetensors": TINY, "paddleclas_tiny.pdparams": TINY, "notebook_tiny.pdparams": TINY}


def flip(data, rng):
    """A few random bytes, half of the time near one end, where the structure is."""
    near = rng.choice([len(data), min(2000, len(data))])
    places = rng.randint(0, near, rng.randint(1, 9))
    data = np.frombuffer(data, np.uint8).copy()
    data[places if rng.rand() < 0.5 else -1 - places] = rng.randint(0, 256, len(places))
    return data.tobytes()


def flip_bit(data, rng):
    data = bytearray(data)
    data[rng.randint(len(data))] ^= 1 << rng.randint(8)
    return bytes(data)


def truncate(data, rng):
    return data[:rng.randint(len(data))]


def cut_out(data, rng):
    start, length = rng.randint(len(data)), rng.randint(1, 5000)
    return data[:start] + data[start + length:]


def insert(data, rng):
    start = rng.randint(len(data))
    return data[:start] + rng.bytes(rng.randint(1, 500)) + data[start:]


def exchange(data, rng):
    """Two stretches of the file change places."""
    a, b, c, d = sorted(rng.randint(0, len(data), 4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def repack(data, rng):
    """A sound archive whose members were swapped, dropped, emptied, renamed or damaged before."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    one, two = rng.choice(sorted(members), 2, replace=False)
    change = rng.randint(6)
    if change == 0:
        members[one], members[two] = members[two], members[one]
    elif change == 1:
        del members[one]
    elif change == 2:
        members[one] = b""
    elif change == 3:
        members["../" * rng.randint(2) + "x"] = members.pop(one)
    else:
        target = next(name for name in members if name.endswith("data.pkl"))
        members[target] = (flip if change == 4 else exchange)(members[target], rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def state(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(reference, tmp_path, name):
    source = reference(name)
    data, rng, path = source.read_bytes(), np.random.RandomState(0), tmp_path / name
    model = FasterNet(**FILES[name])
    load_weights(model, source)  # warms up, so that what is measured below is the loading alone
    sound = state(model)
    damages = [flip, flip_bit, truncate, cut_out, insert, exchange] + ([repack] * 2 if data[:2] == b"PK" else [])
    loaded, refused, peak = 0, 0, 0
    for i in range(COUNT):
        damage = damages[i % len(damages)]
        path.write_bytes(damage(data, rng))
        for value in model.state_dict().values():
            value.set_value(np.full(value.shape, -3.0, "float32"))
        blank = state(model)
        tracemalloc.start()
        try:
            report = load_weights(model, path)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error) and len(str(error)) < 4000
            assert state(model) == blank, f"copy {i} ({damage.__name__}) changed the model and raised {error}"
        else:
            loaded += 1
            after = state(model)
            assert len(report.loaded) == len(after) and not report.missing and not report.unexpected
            assert not any(after[key] == blank[key] for key in after), f"copy {i} ({damage.__name__}) is half loaded"
            if data[:2] == b"PK" and damage is not repack:  # an archive has checksums
                assert after == sound, f"copy {i} ({damage.__name__}) was loaded with other values"
        finally:
            peak = max(peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    print(f"{name}: {loaded} loaded, {refused} refused, at most {peak / len(data):.1f} times the file's memory")
    assert refused > COUNT / 4
    assert peak < 10 * len(data)
