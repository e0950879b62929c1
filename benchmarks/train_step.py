"""Training steps of FasterNet-T0: ours, Paddle's layers, PyTorch; writes work/results/train_step.json.

    python benchmarks/train_step.py [--torch-python PYTHON_THAT_HAS_TORCH]

A step is all that ``fit`` does with a batch in memory: forward, loss with smoothing, backward, AdamW (or Muon, which
PyTorch is not asked for). Every contender has a process of its own; PyTorch's step is ``train`` in
research/torch_fasternet.py.
"""
import itertools

import numpy as np
from turns import THREADS, TORCH, Contender, Record, chosen, in_turn, options, prepare

CLASSES = 10
SETTINGS = {  # name: the network and its input
    "32/2": dict(image_size=32, patch_size=2, batch_size=256),
    "32/1": dict(image_size=32, patch_size=1, batch_size=256),
    "32/2 overlap": dict(image_size=32, patch_size=2, batch_size=256, merge_sizes=(1, 2, 2), embed_overlap=1),
    "224/4": dict(image_size=224, patch_size=4, batch_size=32),
}
OURS = {
    "ours, fp32": {"kernels": "native", "amp": "off"},
    "ours, bf16": {"kernels": "native", "amp": "bfloat16"},
    "ours, bf16, Muon": {"kernels": "native", "amp": "bfloat16", "optimizer": "muon"},
    "Paddle eager, fp32": {"kernels": "paddle", "amp": "off"},
}
PEERS = {f"PyTorch {layout}, {precision}": {"layout": layout, "precision": precision}
         for layout, precision in itertools.product(("plain", "channels_last", "compiled"), ("fp32", "bf16"))}


def step(**settings):
    """Contender: one step, as ``fit`` makes it."""
    import paddle

    from paddle_fasternet import TrainConfig
    from paddle_fasternet.training.optimizers import build_optimizer
    from paddle_fasternet.training.parallel import Processes
    from paddle_fasternet.training.trainer import _choose_kernels, _make_step
    config = TrainConfig(clip_grad=0, lr=1e-4, **settings)
    size, batch = config.image_size, config.batch_size
    paddle.seed(0)
    model = config.build_model(CLASSES)
    model.train()
    processes = Processes()
    dtype = _choose_kernels(model, config, processes)
    step, _ = _make_step(model, model, build_optimizer(model, config), config, processes, dtype)
    images = paddle.to_tensor(np.random.RandomState(0).rand(batch, 3, size, size).astype(np.float32))
    labels = paddle.arange(batch) % CLASSES
    return lambda: float(step(images, labels)[0])


def contenders(setting, torch_python):
    """{name: Contender}."""
    given = SETTINGS[setting]
    found = {name: Contender(step, given["batch_size"], {**given, **changes}) for name, changes in OURS.items()}
    if torch_python:
        shape = {name: value for name, value in given.items() if name not in ("image_size", "batch_size")}
        found.update({name: Contender(f"{TORCH}:train", given["batch_size"], dict(
            name="fasternet_t0", size=given["image_size"], batch=given["batch_size"], threads=THREADS,
            num_classes=CLASSES, **peer, **shape), torch_python) for name, peer in PEERS.items()})
    return found


def summary(rows):
    """Our speed over that of each other contender, for each setting."""
    speed = {(row["setting"], row["contender"]): row["images_per_second"] for row in rows}
    return {setting: {ours: {peer: round(speed[setting, ours] / value, 3) for (other, peer), value in speed.items()
                             if other == setting and not peer.startswith("ours")}
                      for (other, ours) in speed if other == setting and ours.startswith("ours")}
            for setting in dict.fromkeys(row["setting"] for row in rows)}


def main():
    parser = options(__doc__, turns=4, torch=True)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="SIDE/PATCH")
    parser.add_argument("--only", nargs="+", metavar="CONTENDER")
    given = prepare(parser)
    if given.quick:
        given.settings = ["32/2 overlap"]
        SETTINGS["32/2 overlap"]["batch_size"] = 4
    names = chosen(parser, given.only, list(contenders(given.settings[0], given.torch_python)))
    record = Record(given.out, "train_step", settings={name: SETTINGS[name] for name in given.settings})
    for setting in given.settings:
        found = contenders(setting, given.torch_python)
        record.add("rows", in_turn({name: found[name] for name in names}, **given.pace), setting=setting)
        record.put(ratios=summary(record.content["rows"]))
    record.finish()


if __name__ == "__main__":
    main()
