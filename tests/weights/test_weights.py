"""Weights of four origins in three formats: the same answers as their networks, nothing run, nothing half changed."""
import contextlib
import http.server
import json
import os
import pickle
import struct
import subprocess
import threading
import zipfile
from pathlib import Path

import numpy as np
import paddle
import pytest
from networks import RECORDED as TINY
from networks import RECORDED_LS as TINY_LS

from paddle_fasternet.model import VARIANTS, FasterNet, create_model
from paddle_fasternet.weights import (
    CIFAR10_RUN,
    convert,
    load_pretrained,
    load_weights,
    pretrained,
    read_weights,
    save_weights,
)
from paddle_fasternet.weights.write import write_arrays

GOLDEN = Path(__file__).parents[1] / "golden"
PADDLECLAS = str(GOLDEN / "paddleclas_tiny.pdparams")
FILES = {  # file: its network's arguments, its origin
    "official_tiny.pth": (TINY, "official"),
    "official_tiny_ls.pth": (TINY_LS, "official"),
    "timm_tiny.pth": (TINY, "timm"),
    "timm_tiny.safetensors": (TINY, "timm"),
    "paddleclas_tiny.pdparams": (TINY, "paddle"),
    "notebook_tiny.pdparams": ({**TINY, "embed_act": True}, "notebook"),
}


def state(model):
    """The model's weights, bit for bit."""
    return {name: (list(value.shape), value.numpy().tobytes()) for name, value in model.state_dict().items()}


def tiny_arrays():
    """The PaddleClas file's arrays under the same names, writable."""
    return {name: array.copy() for name, array in read_weights(PADDLECLAS).items()}


def relative_error(got, expected):
    return abs(got.numpy() - expected).max() / abs(expected).max()


def test_a_clone_has_a_file_of_every_origin():
    here = {FILES[path.name][1] for path in GOLDEN.iterdir() if path.name in FILES}
    assert here == {origin for _, origin in FILES.values()} and (GOLDEN / "timm_tiny.safetensors").exists()


@pytest.mark.parametrize("name", FILES)
def test_the_recorded_answers(reference, name):
    arguments, origin = FILES[name]
    model = FasterNet(**arguments)
    model.eval()
    report = load_weights(model, reference(name))
    assert report.origin == origin and sorted(report.loaded) == sorted(model.state_dict())
    assert not report.missing and not report.unexpected and not report.mismatched
    assert f"{len(report.loaded)} weights loaded" in str(report)
    with np.load(reference(name.split(".")[0] + ".npz")) as recorded:
        x = paddle.to_tensor(recorded["x"])
        with paddle.no_grad():
            assert relative_error(model(x), recorded["logits"]) < 1e-5
            maps = model.forward_features(x)
        stages = [key for key in recorded.files if key.startswith("stage")]
        assert len(stages) == (4 if origin == "official" else 0)
        for key in stages:
            assert relative_error(maps[int(key[len("stage"):])], recorded[key]) < 1e-5


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors", ".pth", ".pt"])
def test_saved_weights_come_back_bit_for_bit(tmp_path, suffix):
    model, other = FasterNet(**TINY_LS), FasterNet(**TINY_LS)
    assert state(model) != state(other)
    path = tmp_path / "new" / f"weights{suffix}"
    save_weights(model, path)
    before = state(model)
    load_weights(other, path)
    assert state(other) == before == state(model)
    assert os.listdir(path.parent) == [path.name]


def test_paddle_loads_what_is_saved(tmp_path):
    model, other = FasterNet(**TINY), FasterNet(**TINY)
    save_weights(model, tmp_path / "w.pdparams")
    other.set_state_dict(paddle.load(str(tmp_path / "w.pdparams")))
    assert state(other) == state(model)


@pytest.mark.parametrize("mixer", ["dwconv", "gconv", "conv", "identity"])
def test_other_mixers_keep_their_own_names(tmp_path, mixer):
    model, other = FasterNet(**TINY, mixer=mixer), FasterNet(**TINY, mixer=mixer)
    save_weights(model, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    assert state(other) == state(model)
    if mixer != "identity":
        with pytest.raises(ValueError, match="mixer that exists only here"):
            save_weights(model, tmp_path / "w.pth")
        assert os.listdir(tmp_path) == ["w.safetensors"]


@pytest.mark.parametrize("to", ["official", "timm"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pdparams"])
def test_there_and_back_bit_for_bit(tmp_path, to, suffix):
    there, back = tmp_path / f"there{suffix}", tmp_path / "back.pdparams"
    assert convert(PADDLECLAS, there, to) == ("paddle", 58)
    assert convert(there, back) == (to, 58)
    ours, theirs, again = read_weights(PADDLECLAS), read_weights(there), read_weights(back)
    assert again.keys() == ours.keys()
    assert all(again[k].tobytes() == ours[k].tobytes() and again[k].shape == ours[k].shape for k in ours)
    head = theirs["head.weight" if to == "official" else "classifier.weight"]
    np.testing.assert_array_equal(head, ours["head.weight"].T)  # torch's Linear is [out, in]
    assert sum(key.endswith(".num_batches_tracked") for key in theirs) == 9


@pytest.mark.parametrize("name,to", [("official_tiny.pth", "official"), ("official_tiny_ls.pth", "official"),
                                     ("timm_tiny.safetensors", "timm"), ("timm_tiny.pth", "timm")])
def test_their_files_to_ours_and_back_bit_for_bit(reference, tmp_path, name, to):
    convert(reference(name), tmp_path / "ours.pdparams")
    convert(tmp_path / "ours.pdparams", tmp_path / name, to)
    before, after = read_weights(reference(name)), read_weights(tmp_path / name)
    assert before.keys() == after.keys()
    for key in before:
        if not key.endswith("num_batches_tracked"):
            assert before[key].tobytes() == after[key].tobytes() and before[key].shape == after[key].shape


def test_timm_numbers_the_stages_otherwise(tmp_path):
    convert(PADDLECLAS, tmp_path / "timm.safetensors", "timm")
    names, ours = read_weights(tmp_path / "timm.safetensors"), read_weights(PADDLECLAS)
    for theirs, mine in [("stages.1.downsample.reduction.weight", "stages.1.reduction.weight"),
                         ("stages.3.downsample.norm.running_var", "stages.5.norm._variance"),
                         ("stages.2.blocks.1.mlp.0.weight", "stages.4.blocks.1.mlp.0.weight"),
                         ("conv_head.weight", "avgpool_pre_head.1.weight")]:
        assert names[theirs].tobytes() == ours[mine].tobytes()


def test_convert_refuses_what_would_answer_differently(reference, tmp_path):
    with pytest.raises(ValueError, match="activation"):
        convert(reference("notebook_tiny.pdparams"), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"must end in one of: \.pdparams"):
        convert(PADDLECLAS, tmp_path / "w.onnx")
    with pytest.raises(ValueError, match="did you mean 'official'"):
        convert(PADDLECLAS, tmp_path / "w.pth", to="offical")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("nest", ["state_dict", "model", "state_dict_ema", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_nested_files(tmp_path, nest, prefix):
    arrays = {prefix + name: array for name, array in tiny_arrays().items()}
    with open(tmp_path / "w.pdparams", "wb") as file:
        pickle.dump({"epoch": 3, "optimizer": {"state": {0: {"step": 5}}}, nest: arrays}, file, protocol=4)
    model = FasterNet(**TINY)
    report = load_weights(model, tmp_path / "w.pdparams")
    assert report.nest == nest and len(report.loaded) == 58 and nest in str(report)
    assert model.head.weight.numpy().tobytes() == arrays[prefix + "head.weight"].tobytes()


def test_an_average_is_taken_before_the_last_step(tmp_path):
    last, average = tiny_arrays(), tiny_arrays()
    average["head.bias"] += 1
    with open(tmp_path / "w.pdparams", "wb") as file:
        pickle.dump({"state_dict": last, "state_dict_ema": average}, file)
    np.testing.assert_array_equal(read_weights(tmp_path / "w.pdparams")["head.bias"], average["head.bias"])


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.cpu
def test_everything_that_paddle_saves(tmp_path, protocol):
    model, path = FasterNet(**TINY), str(tmp_path / "w.pdparams")
    for saved in (model.state_dict(), {"model": model.state_dict(), "epoch": 1},
                  {k: v.numpy() for k, v in model.state_dict().items()}):
        paddle.save(saved, path, protocol=protocol)
        other = FasterNet(**TINY)
        load_weights(other, path)
        assert state(other) == state(model)
    owner = paddle.to_tensor(np.float32([[1, 2]]))
    paddle.save({"model": {"patch_embed.x": owner.value().get_tensor()}, "epoch": 1}, path, protocol=protocol)
    assert b"eval" in Path(path).read_bytes()  # eval("data", {"data": array})
    np.testing.assert_array_equal(read_weights(path)["patch_embed.x"], [[1, 2]])


def test_weights_that_paddle_cut_into_slices(tmp_path):
    arrays = tiny_arrays()
    whole = arrays.pop("head.weight")
    arrays.update({"head.weight@@.0": whole.reshape(-1)[:100], "head.weight@@.1": whole.reshape(-1)[100:]})
    table = {"head.weight": {"OriginShape": whole.shape, "slices": ["head.weight@@.0", "head.weight@@.1"]}}
    with open(tmp_path / "w.pdparams", "wb") as file:
        pickle.dump({**arrays, "UnpackBigParamInfor@@": table}, file, protocol=2)
    got = read_weights(tmp_path / "w.pdparams")
    assert len(got) == 58
    np.testing.assert_array_equal(got["head.weight"], whole)


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pdparams"])
def test_other_precisions(tmp_path, suffix, dtype):
    """Files of other types load as float32; bfloat16 (bits in uint16) is float32's upper half."""
    arrays = tiny_arrays()
    if dtype == "bfloat16":
        stored = {k: (a.view(np.uint32) >> 16).astype(np.uint16) for k, a in arrays.items()}
        expected = {k: (a.view(np.uint32) & 0xFFFF0000).view(np.float32) for k, a in arrays.items()}
    else:
        stored = {k: a.astype(dtype) for k, a in arrays.items()}
        expected = {k: a.astype(np.float32) for k, a in stored.items()}
    write_arrays(stored, tmp_path / f"w{suffix}")
    model = FasterNet(**TINY)
    load_weights(model, tmp_path / f"w{suffix}")
    for name, value in model.state_dict().items():
        assert value.numpy().tobytes() == expected[name].tobytes()


def test_a_half_precision_model_keeps_its_type(tmp_path):
    model, other = FasterNet(**TINY), FasterNet(**TINY)
    for network in (model, other):
        network.to(dtype="bfloat16")
    for suffix in (".pdparams", ".safetensors"):
        save_weights(model, tmp_path / f"w{suffix}")
        load_weights(other, tmp_path / f"w{suffix}")
        assert other.head.weight.dtype == paddle.bfloat16 and state(other) == state(model)
        load_weights(FasterNet(**TINY), tmp_path / f"w{suffix}")


@pytest.mark.parametrize("arguments,words", [
    ({"num_classes": 7}, "num_classes=10"),
    ({"num_classes": 0}, "not in the model: 2"),
    ({"embed_dim": 24}, r"patch_embed\.proj\.weight is \[16, 3, 4, 4\] in the file, \[24, 3, 4, 4\] in the model"),
    ({"n_div": 2}, "n_div"),
    ({"depths": (1, 1, 3, 1)}, r"missing in the file: 7: stages\.4\.blocks\.2"),
    ({"depths": (1, 1, 1, 1)}, r"not in the model: 7: stages\.4\.blocks\.1"),
    ({"layer_scale_init_value": 0.1}, "layer_scale_init_value"),
    ({"mixer": "dwconv"}, "mixer"),
])
def test_another_network_is_refused_whole(arguments, words):
    model = FasterNet(**{**TINY, **arguments})
    before = state(model)
    with pytest.raises(ValueError, match=words) as error:
        load_weights(model, PADDLECLAS)
    assert state(model) == before and len(str(error.value)) < 2000 and "strict=False" in str(error.value)


def test_strict_false_takes_what_fits():
    model = FasterNet(**{**TINY, "num_classes": 7})
    before = state(model)
    report = load_weights(model, PADDLECLAS, strict=False)
    assert [entry[0] for entry in report.mismatched] == ["head.weight", "head.bias"] and len(report.loaded) == 56
    assert "head.bias is [10] in the file, [7] in the model" in str(report)
    arrays, after = read_weights(PADDLECLAS), state(model)
    for name in report.loaded:
        assert after[name][1] == arrays[name].tobytes()
    assert after["head.weight"] == before["head.weight"] and after["head.bias"] == before["head.bias"]


def test_strict_false_still_wants_something(tmp_path):
    write_arrays({"patch_embed.proj.weight": np.zeros((2, 2), "f4")}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="nothing in the file fits"):
        load_weights(FasterNet(**TINY), tmp_path / "w.safetensors", strict=False)
    write_arrays({"conv1.weight": np.zeros((2, 2), "f4")}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="no FasterNet's names: 'conv1.weight'"):
        load_weights(FasterNet(**TINY), tmp_path / "w.safetensors", strict=False)


def test_the_notebooks_network_needs_embed_act(reference):
    model = FasterNet(**TINY)
    before, path = state(model), reference("notebook_tiny.pdparams")
    with pytest.raises(ValueError, match="embed_act=True"):
        load_weights(model, path)
    assert state(model) == before
    report = load_weights(model, path, strict=False)
    assert len(report.loaded) == 58 and "embed_act=True" in str(report)


def test_a_detection_backbone_gives_its_stages(tmp_path):
    arrays = {f"backbone.{k}": a for k, a in tiny_arrays().items() if not k.startswith(("head.", "avgpool"))}
    arrays = {k.replace("._mean", ".running_mean").replace("._variance", ".running_var"): a for k, a in arrays.items()}
    arrays.update({f"backbone.norm{i}.weight": np.ones(16, "f4") for i in (0, 2, 4, 6)})
    arrays["neck.fpn.weight"] = np.ones(3, "f4")
    write_arrays(arrays, tmp_path / "w.pdparams")
    model = FasterNet(**TINY)
    with pytest.raises(ValueError, match="detection backbone"):
        load_weights(model, tmp_path / "w.pdparams")
    report = load_weights(model, tmp_path / "w.pdparams", strict=False)
    assert report.origin == "official" and len(report.loaded) == 55
    assert report.missing == ["avgpool_pre_head.1.weight", "head.weight", "head.bias"]
    assert "norm0.weight" in report.unexpected and "neck.fpn.weight" in report.unexpected


def test_integers_are_no_weights(tmp_path):
    arrays = tiny_arrays()
    arrays["head.bias"] = np.arange(10)
    write_arrays(arrays, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="head.bias is int64 in the file, float32 in the model"):
        load_weights(FasterNet(**TINY), tmp_path / "w.safetensors")


def test_one_weight_under_two_names(tmp_path):
    arrays = tiny_arrays()
    arrays["module.head.bias"] = arrays["head.bias"]
    write_arrays(arrays, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="'head.bias' twice"):
        load_weights(FasterNet(**TINY), tmp_path / "w.safetensors")


# Files that would run code, or lie. Each is written as {file name: content}; the model must stay as it was.


class Run:
    """Pickles into a call of its arguments."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def torch_archive(data_pkl, members=(), compression=zipfile.ZIP_STORED):
    """Write a torch archive of our own; returns the function that does."""
    def write(path):
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("w/data.pkl", data_pkl)
            for name, content in members:
                archive.writestr(name, content)
    return write


def torch_pickle(tensor=b"", storage=b"FloatStorage", numel=b"K\x04", key=b"0"):
    """{"patch_embed.x": tensor}; ``tensor`` holds offset, size and stride."""
    return (b"\x80\x02}X\x0d\x00\x00\x00patch_embed.xctorch._utils\n_rebuild_tensor_v2\n("
            + b"(X\x07\x00\x00\x00storagectorch\n" + storage + b"\nX" + struct.pack("<I", len(key)) + key
            + b"X\x03\x00\x00\x00cpu" + numel + b"tQ" + tensor
            + b"\x89}tRs.")


def content(data):
    return lambda path: Path(path).write_bytes(data)


def safetensors(header, data=b"\0" * 16):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return content(struct.pack("<Q", len(text)) + text + data)


def entry(shape=(4,), start=0, stop=16, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


PLAIN, FOUR = b"K\x00(K\x04t(K\x01t", [("w/data/0", np.float32([1, 2, 3, 4]).tobytes())]
SLICES = b"X\x15\x00\x00\x00UnpackBigParamInfor@@" + pickle.dumps(
    {"x": {"OriginShape": (1 << 40,), "slices": ["patch_embed.x"]}}, 2)[2:-1] + b"s."
LIES = {
    "empty.pth": (content(b""), "begins with"),
    "page.pdparams": (content(b"<!DOCTYPE html><html>"), "begins with b'<!DOCTYPE"),
    "old.pth": (content(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M"), "torch.save it again"),
    "list.pdparams": (content(pickle.dumps([1, 2])), "holds a list"),
    "nothing.pdparams": (content(pickle.dumps({"epoch": 1})), "holds no weights"),
    "long.pdparams": (content(pickle.dumps({"a" * 999: np.zeros(3)})), "999 characters"),
    "absolute.pth": (torch_archive(torch_pickle(PLAIN), [("/etc/cron.d/x", b""), *FOUR]), "absolute or climbing"),
    "climbing.pth": (torch_archive(torch_pickle(PLAIN), [("w/../../x", b""), *FOUR]), "absolute or climbing"),
    "backslash.pth": (torch_archive(torch_pickle(PLAIN), [("w\\..\\x", b""), *FOUR]), "absolute or climbing"),
    "packed.pth": (torch_archive(torch_pickle(PLAIN), FOUR, zipfile.ZIP_DEFLATED), "compressed"),
    "two.pth": (torch_archive(torch_pickle(PLAIN), [("data.pkl", b""), *FOUR]), "it has 2 data.pkl"),
    "again.pth": (torch_archive(torch_pickle(PLAIN), FOUR + FOUR), "has 'w/data/0' twice"),
    "zip.pth": (lambda path: zipfile.ZipFile(path, "w").close(), "begins with b'PK"),
    "absent.pth": (torch_archive(torch_pickle(PLAIN, key=b"../0"), FOUR), "lacks the storage '../0'"),
    "short.pth": (torch_archive(torch_pickle(PLAIN, numel=b"K\x05"), FOUR), "has 16 bytes, not 5 times 4"),
    "type.pth": (torch_archive(torch_pickle(PLAIN, storage=b"DoubleStorage"), FOUR), "has 16 bytes, not 4 times 8"),
    "quantised.pth": (torch_archive(torch_pickle(PLAIN, storage=b"QInt8Storage"), FOUR), "torch.QInt8Storage"),
    "offset.pth": (torch_archive(torch_pickle(b"K\x01(K\x04t(K\x01t"), FOUR), "reaches element 4"),
    "shape.pth": (torch_archive(torch_pickle(b"K\x00(K\x05t(K\x01t"), FOUR), "reaches element 4"),
    "stride.pth": (torch_archive(torch_pickle(b"K\x00(K\x02K\x02t(K\x03K\x01t"), FOUR), "reaches element 4"),
    "negative.pth": (torch_archive(torch_pickle(b"K\x03(K\x04t(J\xff\xff\xff\xfft"), FOUR), "proper shape"),
    "before.pth": (torch_archive(torch_pickle(b"J\xff\xff\xff\xff(K\x04t(K\x01t"), FOUR), "proper shape"),
    "uneven.pth": (torch_archive(torch_pickle(b"K\x00(K\x04t(K\x01K\x01t"), FOUR), "proper shape"),
    "repeated.pth": (torch_archive(torch_pickle(b"K\x00(J\xff\xff\xff\x7ft(K\x00t"), FOUR), "larger than the file"),
    "slices.pth": (torch_archive(torch_pickle(b"K\x00(" + b"J\x00\x00\x10\x00" * 2 + b"t(K\x00K\x00t")[:-1] + SLICES,
                                 FOUR), "larger than the file"),
    "header.safetensors": (safetensors({"a": entry()}, b""), "does not lie"),
    "length.safetensors": (content(struct.pack("<Q", 1 << 60) + b"{}"), "longer than the file"),
    "json.safetensors": (safetensors(b'{"a": '), "cannot be loaded"),
    "deep.safetensors": (safetensors(b'{"a":' + b"[" * 100_000), "cannot be loaded"),
    "digits.safetensors": (safetensors(b'{"a":' + b"9" * 100_000), "20 digits"),
    "twice.safetensors": (safetensors(b'{"a":%s,"a":%s}' % (2 * (json.dumps(entry()).encode(),))), "a name twice"),
    "overlap.safetensors": (safetensors({"a": entry(), "b": entry((2,), 0, 8)}), "does not lie"),
    "gap.safetensors": (safetensors({"a": entry((2,), 0, 8), "b": entry((1,), 12, 16)}), "does not lie"),
    "rest.safetensors": (safetensors({"a": entry((2,), 0, 8)}), "describes 8 of 16"),
    "product.safetensors": (safetensors({"a": entry((1 << 40, 1 << 40))}), "does not lie"),
    "float.safetensors": (safetensors({"a": entry((4.0,))}), "proper shape"),
    "minus.safetensors": (safetensors({"a": entry((-2, -2))}), "proper shape"),
    "f8.safetensors": (safetensors({"a": entry((16,), dtype="F8_E4M3")}), "F8_E4M3"),
    "array.safetensors": (safetensors(b"{}  [1]"), "cannot be loaded"),
}


@pytest.mark.parametrize("name", LIES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_files_that_lie_are_refused_with_the_reason(tmp_path, name):
    write, reason = LIES[name]
    write(tmp_path / name)
    model = FasterNet(**TINY)
    before = state(model)
    for strict in (True, False):
        with pytest.raises(ValueError, match=name.split(".")[0]) as error:
            load_weights(model, tmp_path / name, strict=strict)
        assert reason in str(error.value)
    assert state(model) == before


def test_the_archive_these_lies_are_made_of_is_read(tmp_path):
    """The honest one, so that each refusal above is for its own lie; and strides, offsets and empty tensors."""
    for place, expected in [(PLAIN, [1, 2, 3, 4]), (b"K\x01(K\x02t(K\x02t", [2, 4]), (b"K\x00(K\x02K\x02t(K\x01K\x02t",
                            [[1, 3], [2, 4]]), (b"K\x04(K\x00t(K\x01t", []), (b"K\x02(t(t", 3),
                            (b"K\x00(K\x01K\x04t(J\xff\xff\xff\x7fK\x01t", [[1, 2, 3, 4]])]:
        torch_archive(torch_pickle(place), FOUR)(tmp_path / "w.pth")
        got = read_weights(tmp_path / "w.pth")["patch_embed.x"]
        assert got.shape == np.shape(expected) and got.dtype == np.float32
        np.testing.assert_array_equal(got, expected)
    torch_archive(torch_pickle(PLAIN), [("w/data/0", np.array([1, 2, 3, 4], ">f4").tobytes()), ("w/byteorder", "big")])(
        tmp_path / "w.pth")
    np.testing.assert_array_equal(read_weights(tmp_path / "w.pth")["patch_embed.x"], [1, 2, 3, 4])
    safetensors({"a": entry(), "__metadata__": {"format": "pt"}})(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(read_weights(tmp_path / "w.safetensors")["a"], np.zeros(4))


@pytest.mark.parametrize("kind", ["pdparams", "nested", "eval", "torch", "storage", "old torch"])
def test_a_file_that_would_run_code_does_not(tmp_path, kind):
    marker, path = tmp_path / "marker", tmp_path / "w.pth"
    attack = Run(os.system, f"echo x > '{marker}'")
    if kind == "eval":  # what Paddle's own files name, with other code in it
        attack = Run(eval, f"open({str(marker)!r}, 'w').close()", {"data": 1})
    value = {**tiny_arrays(), "head.bias": attack} if kind in ("pdparams", "eval") else {"state_dict": {"x": [attack]}}
    data = pickle.dumps(value, protocol=2)
    if kind == "torch":
        torch_archive(data)(path)
    elif kind == "storage":
        torch_archive(torch_pickle(PLAIN).replace(b"X\x01\x00\x00\x000", pickle.dumps(attack, 2)[2:-1]), FOUR)(path)
    elif kind == "old torch":
        path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + data)
    else:
        path.write_bytes(data)
    model = FasterNet(**TINY)
    before = state(model)
    for strict in (True, False):
        with pytest.raises(ValueError, match="was not run" if kind != "old torch" else "torch.save it again"):
            load_weights(model, path, strict=strict)
    assert state(model) == before and not marker.exists()
    pickle.loads(data)
    assert marker.exists(), "the attack is none"


def test_safetensors_hold_no_code(tmp_path):
    """The third format has no place for code: a pickle under its name is judged as the pickle it is."""
    path, marker = tmp_path / "w.safetensors", tmp_path / "marker"
    path.write_bytes(pickle.dumps(Run(subprocess.call, ["touch", str(marker)])))
    with pytest.raises(ValueError, match="was not run"):
        load_weights(FasterNet(**TINY), path)
    assert not marker.exists()


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "w.pdparams"
    model = FasterNet(**TINY)
    save_weights(model, path)
    before = path.read_bytes()
    for failing in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, failing, _no_space)
            with pytest.raises(OSError, match="No space"):
                save_weights(FasterNet(**TINY), path)
        assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def _no_space(*_):
    raise OSError(28, "No space left on device")


def test_a_missing_file_is_an_oserror():
    with pytest.raises(FileNotFoundError):
        load_weights(FasterNet(**TINY), "no/such/file.pdparams")


# pretrained=True, against a server on loopback.


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with the file of FasterNet-T0 as PaddleClas would publish it, of random weights."""
    folder = tmp_path_factory.mktemp("published")
    model = create_model("fasternet_t0", num_classes=1000)
    save_weights(model, folder / "FasterNet_T0_pretrained.pdparams")
    return folder, state(model)


@pytest.fixture
def server(published, tmp_path, monkeypatch):
    """Serves that folder and counts; ``server.cut`` ends an answer early, ``server.body`` replaces it."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append(self.path)
            path = published[0] / self.path.strip("/")
            if not path.exists():
                return self.send_error(404)
            body = server.body or path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # who finds the length wrong hangs up
                self.wfile.write(body[:server.cut])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.cut, server.body, server.cache = [], None, None, tmp_path / "cache"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(pretrained, "BASE_URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(paddle.utils.download, "WEIGHTS_HOME", str(server.cache))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_pretrained_is_fetched_once_and_loaded(server, published, capfd):
    model = create_model("fasternet_t0", pretrained=True, num_classes=1000)
    assert state(model) == published[1]
    assert os.listdir(server.cache) == ["FasterNet_T0_pretrained.pdparams"]
    assert "starts fresh" not in capfd.readouterr().err
    ten = create_model("fasternet_t0", pretrained=True)
    assert "num_classes=10 and is left out" in capfd.readouterr().err
    assert server.requests == ["/FasterNet_T0_pretrained.pdparams"]
    after = state(ten)
    assert all(after[name] == published[1][name] for name in after if not name.startswith("head."))
    assert after["head.weight"][0] == [1280, 10]


def test_the_shipped_weights_classify_as_their_run_did():
    from paddle_fasternet import load_run
    model = create_model("fasternet_t0", pretrained="cifar10")
    run = load_run(CIFAR10_RUN, "final")
    model.eval()
    assert run.class_names[3] == "cat" and run.history.epochs[-1]["val_acc"] > 0.7
    assert run.history.record["train"]["loss"] == [epoch["train_loss"] for epoch in run.history.epochs]
    assert (CIFAR10_RUN / "history.json").stat().st_size < 50_000  # nobody needs its 11,700 steps
    x = paddle.randn([2, 3, 32, 32])
    np.testing.assert_array_equal(model(x).numpy(), run.model(x).numpy())
    fresh = create_model("fasternet_t0", pretrained="cifar10", num_classes=7)
    np.testing.assert_array_equal(fresh.patch_embed.proj.weight.numpy(), model.patch_embed.proj.weight.numpy())
    with pytest.raises(ValueError, match="'cifar10' is shipped for fasternet_t0 alone, not for fasternet_s"):
        create_model("fasternet_s", pretrained="cifar10")


def test_a_broken_download_leaves_nothing(server):
    server.cut = 1_000_000
    with pytest.raises(OSError, match="cannot download"):
        create_model("fasternet_t0", pretrained=True)
    assert os.listdir(server.cache) == []
    server.cut, server.body = None, b"<html>log in to the network first</html>"
    with pytest.raises(ValueError, match="thrown away"):
        create_model("fasternet_t0", pretrained=True)
    server.body = Path(PADDLECLAS).read_bytes()
    with pytest.raises(ValueError, match=r"not fasternet_t0.*patch_embed\.proj\.weight \[16, 3, 4, 4\]"):
        create_model("fasternet_t0", pretrained=True)
    server.body = b"\x80" * 20_000_000
    with pytest.raises(ValueError, match="has more than 16709296 bytes"):
        create_model("fasternet_t0", pretrained=True)
    assert os.listdir(server.cache) == []
    with pytest.raises(OSError, match="404"):
        create_model("fasternet_t1", pretrained=True)


def test_a_damaged_file_in_the_cache_is_named(server, published):
    server.cache.mkdir()
    path = server.cache / "FasterNet_T0_pretrained.pdparams"
    path.write_bytes((published[0] / path.name).read_bytes()[:1_000_000])
    with pytest.raises(ValueError, match="Delete .*FasterNet_T0_pretrained.pdparams"):
        create_model("fasternet_t0", pretrained=True)
    assert server.requests == []


def test_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(pretrained, "BASE_URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(paddle.utils.download, "WEIGHTS_HOME", str(tmp_path))
    with pytest.raises(OSError) as error:
        create_model("fasternet_t0", pretrained=True)
    assert "http://127.0.0.1:9/FasterNet_T0_pretrained.pdparams" in str(error.value)
    assert str(tmp_path / "FasterNet_T0_pretrained.pdparams") in str(error.value)
    assert error.value.__suppress_context__  # one error, not a chain of them


def test_pretrained_from_a_path(capfd, tmp_path):
    model = FasterNet(**{**TINY, "num_classes": 7})
    report = load_pretrained(model, "fasternet_t0", PADDLECLAS)
    assert len(report.loaded) == 56 and "starts fresh" in capfd.readouterr().err
    other = FasterNet(**{**TINY, "embed_dim": 24})
    before = state(other)
    with pytest.raises(ValueError, match="does not fit the model"):
        load_pretrained(other, "fasternet_t0", PADDLECLAS)
    assert state(other) == before
    for wrong in ("cifar100", str(tmp_path / "absent.pdparams"), 3):
        with pytest.raises(ValueError, match=r"is not known; give True .* or the path"):
            load_pretrained(model, "fasternet_t0", wrong)


def test_what_is_published_is_what_the_variants_are():
    counts = dict(zip(VARIANTS, (3905500, 7595368, 14982888, 31181032, 53521464, 93465192)))  # official network's
    for name, count in counts.items():
        shapes = pretrained.published_shapes(name)
        assert sum(np.prod(s) for key, s in shapes.items() if not key.endswith(("._mean", "._variance"))) == count
    model = create_model("fasternet_t1", num_classes=1000)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == pretrained.published_shapes("fasternet_t1")
