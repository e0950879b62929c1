"""Whose names a weight file has, and the way from them to this library's and back.

| origin | who | what differs from ours |
|---|---|---|
| paddle | this library, PaddleClas | nothing |
| official | github.com/JierunChen/FasterNet, torch | BatchNorm's statistics; Linear weights are [out, in] |
| timm | timm's fasternet.py, torch | the same, the stages' numbers, the head |
| notebook | the 2023 notebook, Paddle | every name; its network has an activation behind each embedding |
"""
import re

ORIGINS = ("paddle", "official", "timm", "notebook")
TARGETS = ("paddle", "official", "timm")  # whose names can be written
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")  # of torch's wrappers, Lightning's and mmdetection's
_COUNTERS = (".num_batches_tracked", "n_averaged")  # of torch's BatchNorm and AveragedModel

# Each entry: theirs (a pattern), ours.
_STATISTICS = [(r"\.running_mean$", "._mean"), (r"\.running_var$", "._variance")]
_TO_OURS = {
    "paddle": [],
    "official": _STATISTICS,
    "timm": _STATISTICS + [
        (r"^stages\.(\d+)\.blocks\.", lambda m: f"stages.{2 * int(m[1])}.blocks."),
        (r"^stages\.(\d+)\.downsample\.", lambda m: f"stages.{2 * int(m[1]) - 1}."),
        (r"^conv_head\.", "avgpool_pre_head.1."),
        (r"^classifier\.", "head."),
    ],
    "notebook": [
        (r"^stem\.0\.", "patch_embed.proj."),
        (r"^stem\.1\.", "patch_embed.norm."),
        (r"^feature\.(\d*[02468])\.(\d+)\.pconv\.conv\.", r"stages.\1.blocks.\2.spatial_mixing.partial_conv3."),
        (r"^feature\.(\d*[02468])\.(\d+)\.conv1\.", r"stages.\1.blocks.\2.mlp.0."),
        (r"^feature\.(\d*[02468])\.(\d+)\.bn\.", r"stages.\1.blocks.\2.mlp.1."),
        (r"^feature\.(\d*[02468])\.(\d+)\.conv2\.", r"stages.\1.blocks.\2.mlp.3."),
        (r"^feature\.(\d*[13579])\.0\.", r"stages.\1.reduction."),
        (r"^feature\.(\d*[13579])\.1\.", r"stages.\1.norm."),
        (r"^conv1\.", "avgpool_pre_head.1."),
        (r"^fc\.", "head."),
    ],
}
_OWN_STATISTICS = [(r"\._mean$", ".running_mean"), (r"\._variance$", ".running_var")]
_FROM_OURS = {
    "paddle": [],
    "official": _OWN_STATISTICS,
    "timm": _OWN_STATISTICS + [
        (r"^stages\.(\d+)\.blocks\.", lambda m: f"stages.{int(m[1]) // 2}.blocks."),
        (r"^stages\.(\d+)\.(?=reduction\.|norm\.)", lambda m: f"stages.{(int(m[1]) + 1) // 2}.downsample."),
        (r"^avgpool_pre_head\.1\.", "conv_head."),
        (r"^head\.", "classifier."),
    ],
}
_TRANSPOSED = {"official": ["head.weight"], "timm": ["head.weight"]}  # in our names: [out, in] there, [in, out] here


def recognise(names):
    """One of ``ORIGINS`` for a file's names, prefixes removed.

    Raises:
        ValueError: they are no FasterNet's.
    """
    if any(name.startswith(("stem.0.", "feature.")) for name in names):
        return "notebook"
    if any(name.startswith(("conv_head.", "classifier.")) or ".downsample." in name for name in names):
        return "timm"
    if any(name.startswith(("patch_embed.", "stages.")) for name in names):
        return "official" if any(name.endswith((".running_mean", ".running_var")) for name in names) else "paddle"
    raise ValueError(f"these are no FasterNet's names: {', '.join(repr(name[:100]) for name in list(names)[:3])}, ...")


def to_ours(arrays):
    """(origin, ours): the arrays of a file under our names and in our layout, views of the same memory.

    Torch's counters are left out. Names that no rule knows stay as they are.

    Raises:
        ValueError: they are no FasterNet's names, or two of them mean the same.
    """
    stripped = {}
    for name, array in arrays.items():
        while name.startswith(PREFIXES):
            name = name.split(".", 1)[1]
        if not name.endswith(_COUNTERS):
            _add(stripped, name, array)
    origin = recognise(stripped)
    ours = {}
    for name, array in stripped.items():
        _add(ours, _rename(name, _TO_OURS[origin]), array)
    return origin, _transpose(ours, origin)


def from_ours(arrays, target):
    """The arrays under the names and in the layout of one of ``TARGETS``.

    Raises:
        ValueError: the target's network has no such layer (another mixer than "pconv").
    """
    for name in arrays:
        if target != "paddle" and "spatial_mixing." in name and "spatial_mixing.partial_conv3." not in name:
            raise ValueError(f"{name!r} is of a mixer that exists only here; to={target!r} has PConv alone")
    return {_rename(name, _FROM_OURS[target]): array for name, array in _transpose(arrays, target).items()}


def _rename(name, rules):
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _transpose(ours, origin):
    names = _TRANSPOSED.get(origin, [])
    return {name: array.T if name in names and array.ndim == 2 else array for name, array in ours.items()}


def _add(arrays, name, array):
    if name in arrays:
        raise ValueError(f"the file has the weight {name[:100]!r} twice under different names")
    arrays[name] = array
