"""Training steps of FasterNet-T0: ours, Paddle's eager way, PyTorch; writes work/results/train_step.json.

    OMP_NUM_THREADS=2 python benchmarks/train_step.py --torch-python PYTHON_THAT_HAS_TORCH

A step is all that ``fit`` does with a batch in memory: forward, loss with smoothing, backward, AdamW (or Muon, which
PyTorch is not asked for). Contenders take turns; PyTorch, by the few lines of ``torch_fasternet.py``, has a process of
its own.
"""
import argparse
import itertools

import numpy as np
import paddle
from turns import THREADS, Torch, in_turn

from paddle_fasternet import TrainConfig
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import machine
from paddle_fasternet.training.optimizers import build_optimizer
from paddle_fasternet.training.parallel import Processes
from paddle_fasternet.training.trainer import _choose_kernels, _make_step

CLASSES = 10
SETTINGS = {  # name: (side, patch_size, batch)
    "32/2": (32, 2, 256),
    "32/1": (32, 1, 256),
    "224/4": (224, 4, 32),
}
OURS = {
    "ours, fp32": {"kernels": "native", "amp": "off"},
    "ours, bf16": {"kernels": "native", "amp": "bfloat16"},
    "ours, bf16, Muon": {"kernels": "native", "amp": "bfloat16", "optimizer": "muon"},
    "Paddle eager, fp32": {"kernels": "paddle", "amp": "off"},
}
PEERS = {f"PyTorch {layout}, {precision}": {"layout": layout, "precision": precision}
         for layout, precision in itertools.product(("plain", "channels_last", "compiled"), ("fp32", "bf16"))}


def our_step(changes, size, patch_size, batch):
    """A function without arguments that makes one step, as ``fit`` makes it."""
    config = TrainConfig(patch_size=patch_size, image_size=size, batch_size=batch, clip_grad=0, lr=1e-4, **changes)
    paddle.seed(0)
    model = config.build_model(CLASSES)
    model.train()
    processes = Processes()
    dtype = _choose_kernels(model, config, processes)
    step, _ = _make_step(model, build_optimizer(model, config), config, processes, dtype)
    images = paddle.to_tensor(np.random.RandomState(0).rand(batch, 3, size, size).astype(np.float32))
    labels = paddle.arange(batch) % CLASSES
    return lambda: float(step(images, labels)[0])


def rows_of(setting, repeats, torch_python, layouts):
    """Every contender's timing: [{setting, contender, ...}]."""
    size, patch_size, batch = SETTINGS[setting]
    contenders, refused, versions = {}, [], set()
    for name, changes in OURS.items():
        contenders[name] = our_step(changes, size, patch_size, batch), batch
    for name, peer in PEERS.items():
        if torch_python and peer["layout"] in layouts:
            try:
                worker = Torch(torch_python, "train", "fasternet_t0", size, batch, peer["precision"],
                               layout=peer["layout"], patch_size=patch_size, classes=CLASSES)
            except OSError as error:
                refused.append(f"{setting} {name}: {error}")
            else:
                contenders[name] = worker, batch
                versions.add(worker.version)
    timings = in_turn(contenders, repeats)
    for call, _ in contenders.values():
        if isinstance(call, Torch):
            call.close()
    for name, timing in timings.items():
        print(f"{setting:6s} {name:28s} {timing}", flush=True)
    return [{"setting": setting, "contender": name, **timing.to_dict()} for name, timing in timings.items()], (
        refused, versions)


def summary(rows):
    """Our speed over that of each other contender, for each setting."""
    speed = {(row["setting"], row["contender"]): row["images_per_second"] for row in rows}
    return {setting: {ours: {peer: round(speed[setting, ours] / value, 3) for (other, peer), value in speed.items()
                             if other == setting and not peer.startswith("ours")}
                      for (other, ours) in speed if other == setting and ours.startswith("ours")}
            for setting in dict.fromkeys(row["setting"] for row in rows)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="SIDE/PATCH")
    parser.add_argument("--repeats", type=int, default=4, help="turns of at least three timed steps each")
    parser.add_argument("--torch-python", default=None)
    parser.add_argument("--layouts", nargs="+", choices=("plain", "channels_last", "compiled"),
                        default=["plain", "channels_last", "compiled"])
    parser.add_argument("--out", default="work/results")
    options = parser.parse_args()
    out = make_folder("out", options.out)
    rows, refused, versions = [], [], set()
    for setting in options.settings:
        found, (more, seen) = rows_of(setting, options.repeats, options.torch_python, options.layouts)
        rows, refused, versions = rows + found, refused + more, versions | seen
    write_json(out / "train_step.json", {
        "command": f"OMP_NUM_THREADS={THREADS} python benchmarks/train_step.py --repeats {options.repeats} "
                   f"--settings {' '.join(options.settings)} --layouts {' '.join(options.layouts)} "
                   "--torch-python PYTHON",
        "machine": {**machine(), "torch": ", ".join(sorted(versions))}, "settings": {
            name: dict(zip(("image_size", "patch_size", "batch_size"), SETTINGS[name])) for name in options.settings},
        "ratios": summary(rows), "rows": rows, "not_run": refused})


if __name__ == "__main__":
    main()
