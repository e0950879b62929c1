"""From one weight file to another, under other names and in another format."""
import os

import numpy as np

from .._check import check_choice, check_path
from .names import TARGETS, from_ours, to_ours
from .read import read_nested
from .write import check_suffix, write_arrays


def convert(src, dst, to=None):
    """Rewrite a weight file, bit for bit: names and layout change, values and types do not.

    Args:
        src: a file of any of the four origins; see ``read_weights``.
        dst: the file to write; its suffix decides the format: .pdparams, .safetensors, .pth or .pt.
        to: whose names: "paddle" (ours, which are PaddleClas's), "official" or "timm". None: "official" for .pth and
            .pt, otherwise "paddle". For the torch networks the counters num_batches_tracked are added, as 0.

    Returns:
        (origin, count): whose names ``src`` had, and how many weights were written.

    Raises:
        ValueError: ``src`` cannot be read or is no FasterNet's; ``dst`` or ``to`` is unknown; the target's network
            lacks something: an activation behind the embeddings (notebook files), another mixer.
        OSError: ``src`` cannot be found, or ``dst`` cannot be written (what was there is then unchanged).
    """
    check_path("src", src)
    check_path("dst", dst)
    suffix = check_suffix(dst)
    if to is None:
        to = "official" if suffix in (".pth", ".pt") else "paddle"
    check_choice("to", to, TARGETS)
    try:
        origin, arrays = to_ours(read_nested(src)[0])
        if origin == "notebook" and to != "paddle":
            raise ValueError(f"the 2023 notebook's network has an activation behind its embeddings, which to={to!r} "
                             "lacks; only to='paddle' keeps its answers (with embed_act=True)")
        arrays = from_ours(arrays, to)
    except ValueError as error:
        raise ValueError(f"{os.fspath(src)!r} cannot be converted: {error}") from None
    count = len(arrays)
    if to != "paddle":
        arrays.update({name[:-len("running_var")] + "num_batches_tracked": np.zeros((), np.int64)
                       for name in arrays if name.endswith(".running_var")})
    write_arrays(arrays, dst)
    return origin, count
