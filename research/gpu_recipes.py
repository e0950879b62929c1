"""A recipe's training in PyTorch on a CUDA GPU: what the settings of 2023 reach on an archive, in minutes.

    python -c "import json; from paddle_fasternet.training import TrainConfig; \\
        print(json.dumps(TrainConfig.recipe('notebook').to_dict()))" > notebook.json
    python research/gpu_recipes.py notebook.json --data-file cifar-10-python.tar.gz \\
        --out work/results/gpu_recipes.json

The first argument is a ``config.json``, as every run has one. Needs torch and numpy, no Paddle: the network is that of
``torch_fasternet.py``; augmentation, optimizers and averaging are the package's, written once more for whole batches on
the GPU. It tells what a recipe reaches; nothing but figures is saved.
"""
import argparse
import importlib.util
import json
import math
import platform
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch_fasternet import MIXERS, build

CHUNK = 16  # batches that are augmented at once
AUGMENTATIONS = {"flip", "altflip", "shift", "jitter", "crop", "rotate", "cutout", "mixup"}
PRESETS = {"none": "", "standard": "flip,shift=4", "notebook": "crop=0.08,jitter=0.2,flip=0.5,rotate=20,mixup=0.2"}
STRENGTHS = {"flip": 0.5, "altflip": 1, "shift": 4, "cutout": 0.25, "mixup": 0.2}
GRAY = (0.299, 0.587, 0.114)
NEWTON_SCHULZ, MOMENTUM, SIZE_OF_ADAMW = (3.4445, -4.7750, 2.0315), 0.95, 0.2


def read_archive(path):
    """{"train" or "test": (uint8 [N, 3, 32, 32], int64 [N])}, by the package's reader that runs no pickle."""
    source = Path(__file__).parents[1] / "paddle_fasternet" / "safe_pickle.py"
    spec = importlib.util.spec_from_file_location("safe_pickle", source)
    safe_pickle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(safe_pickle)
    images, labels = {"train": [], "test": []}, {"train": [], "test": []}
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            part = next((part for part, name in (("train", "data_batch_"), ("test", "test_batch"))
                         if Path(member.name).name.startswith(name)), None)
            if part:
                batch = {(key.decode() if isinstance(key, bytes) else key): value
                         for key, value in safe_pickle.loads(archive.extractfile(member).read()).items()}
                images[part].append(np.asarray(batch["data"]).reshape(-1, 3, 32, 32))
                labels[part].append(np.asarray(batch["labels"], np.int64))
    return {part: (torch.from_numpy(np.concatenate(images[part])), torch.from_numpy(np.concatenate(labels[part])))
            for part in images}


def strengths(text):
    """"flip,shift=4" as {name: strength}."""
    chosen = {}
    for item in filter(None, PRESETS.get(text, text).split(",")):
        name, _, strength = item.partition("=")
        if name not in AUGMENTATIONS:
            raise ValueError(f"augment={text!r}: {name} is not one of {sorted(AUGMENTATIONS)}, which this script has")
        chosen[name] = float(strength or STRENGTHS[name])
    return chosen


class Augment:
    """uint8 [N, 3, H, W] to float32 [N, 3, S, S]; labels to [N, K]. The meanings are ``paddle_fasternet.Augment``'s."""

    def __init__(self, text, size, mean, std, classes):
        self.strength, self.size, self.mean, self.std, self.classes = strengths(text), size, mean, std, classes

    def __call__(self, images, labels=None, mirrored=None):
        has, n, device = self.strength, len(images), images.device
        flip = mirrored if "altflip" in has else torch.rand(n, device=device) < has.get("flip", 0)
        x = self._flip_shift(images, flip, int(has.get("shift", 0))).float() if has else images.float()
        if has.get("jitter"):
            x = self._jitter(x, has["jitter"])
        x = (x - self.mean) / self.std
        if has.get("crop") or has.get("rotate"):
            x = self._crop_rotate(x, has.get("crop", 0), has.get("rotate", 0))
        if has.get("cutout"):
            side, places = x.shape[-1], torch.arange(x.shape[-1], device=device)
            centres = torch.rand(2, n, 1, device=device) * side
            half = has["cutout"] * side / 2
            rows, columns = (places >= (centres - half).round()) & (places < (centres + half).round())
            x = x * ~(rows[:, None, :, None] & columns[:, None, None, :])
        targets = None if labels is None else F.one_hot(labels, self.classes).float()
        if has.get("mixup"):
            alpha = torch.tensor(has["mixup"], device=device)
            keep = torch.distributions.Beta(alpha, alpha).sample((n,))
            x = torch.lerp(x.roll(-1, 0), x, keep.reshape(n, 1, 1, 1))
            targets = torch.lerp(targets.roll(-1, 0), targets, keep.reshape(n, 1))
        if x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)
        return x, targets

    @staticmethod
    def _flip_shift(images, flip, shift):
        n, side, device = len(images), images.shape[-1], images.device
        offsets = torch.randint(-shift, shift + 1, (2, n, 1), device=device)
        rows, columns = (side - 1) - ((side - 1) - (torch.arange(side, device=device) + offsets).abs()).abs()
        columns = torch.where(flip[:, None], columns.flip(1), columns)
        return images[torch.arange(n, device=device)[:, None, None], :, rows[:, :, None],
                      columns[:, None, :]].permute(0, 3, 1, 2)

    @staticmethod
    def _jitter(x, strength):
        brightness, contrast, saturation = torch.empty(3, len(x), 1, 1, 1, device=x.device).uniform_(
            1 - strength, 1 + strength)
        gray = torch.einsum("nchw,c->nhw", x, torch.tensor(GRAY, device=x.device))[:, None]
        mean = gray.mean((2, 3), keepdim=True) * brightness
        return (torch.lerp(gray, x, saturation) * brightness * contrast + mean * (1 - contrast)).clamp(0, 255)

    def _crop_rotate(self, x, smallest, degrees):
        n, side, device = len(x), x.shape[-1], x.device

        def uniform(low, high):
            return torch.empty(n, device=device).uniform_(low, high)

        if smallest:
            area, aspect = side ** 2 * uniform(smallest, 1), torch.exp(uniform(math.log(3 / 4), math.log(4 / 3)))
            height, width = ((area * ratio).sqrt().round().clamp(1, side) for ratio in (1 / aspect, aspect))
        else:
            height = width = torch.full((n,), float(side), device=device)
        top, left = (torch.floor(uniform(0, 1) * (side - length + 1)) for length in (height, width))
        angle = uniform(-degrees, degrees).deg2rad().reshape(n, 1, 1)
        place = (torch.arange(self.size, device=device) + 0.5) * (2 / self.size) - 1
        down, right = place[:, None], place[None, :]
        within_x = angle.cos() * right + angle.sin() * down
        within_y = angle.cos() * down - angle.sin() * right
        grid = torch.stack([((within + 1) * length.reshape(n, 1, 1) / 2 + start.reshape(n, 1, 1)) * (2 / side) - 1
                            for within, start, length in ((within_x, left, width), (within_y, top, height))], 3)
        x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        outside = torch.maximum(within_x.abs(), within_y.abs())[:, None] > 1
        return torch.where(outside, (-self.mean / self.std), x)


class Muon:
    """``paddle_fasternet.training.optimizers.Muon`` on stacks of matrices of one shape."""

    def __init__(self, matrices, rate, weight_decay):
        self.rate, self.weight_decay = rate, weight_decay
        shapes = {}
        for matrix in matrices:
            shapes.setdefault((len(matrix), matrix[0].numel()), []).append(matrix)
        self.stacks = [(group, torch.zeros(len(group), *shape, device=rate.device)) for shape, group in shapes.items()]

    @torch.no_grad()
    def step(self):
        a, b, c = NEWTON_SCHULZ
        for group, momentum in self.stacks:
            gradient = torch.stack([matrix.grad.flatten(1) for matrix in group])
            momentum.lerp_(gradient, 1 - MOMENTUM)
            x = torch.lerp(gradient, momentum, MOMENTUM)
            rows, columns = x.shape[1:]
            x = x if rows <= columns else x.mT
            x = x / (x.square().sum((1, 2), keepdim=True).sqrt() + 1e-7)
            for _ in range(3):
                square = x @ x.mT
                x = a * x + (b * square + c * square @ square) @ x
            x = x if rows <= columns else x.mT
            size = SIZE_OF_ADAMW * math.sqrt(max(rows, columns))
            for matrix, update in zip(group, x):
                matrix.mul_(1 - self.rate * self.weight_decay).sub_(self.rate * size * update.reshape(matrix.shape))


def initialise(model, init):
    """As ``FasterNet``'s argument of that name."""
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            he = init == "he" and isinstance(layer, nn.Conv2d)
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.weight[0].numel()) if he else 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Training:
    """One network and all that a step needs; on a GPU the whole step is one CUDA graph."""

    def __init__(self, config, classes, device):
        self.config, self.device = config, device
        self.model = build(config["model"], classes, config["patch_size"], config["merge_sizes"], config["embed_act"],
                           config["embed_overlap"], config["mixer"])
        initialise(self.model, config["init"])
        self.model.to(device, memory_format=torch.channels_last)
        self.rate = torch.zeros((), device=device)
        convolutions = [layer for layer in self.model.modules() if isinstance(layer, nn.Conv2d)]
        matrices = [layer.weight for layer in convolutions[1:-1] if layer.groups == 1]
        chosen = {id(matrix) for matrix in matrices} if config["optimizer"] == "muon" else set()
        self.others = [parameter for parameter in self.model.parameters() if id(parameter) not in chosen]
        self.muon = Muon(matrices, self.rate, config["weight_decay"]) if chosen else None
        self.adamw = torch.optim.AdamW(
            [{"params": [p for p in self.others if p.ndim > 1], "weight_decay": config["weight_decay"]},
             {"params": [p for p in self.others if p.ndim == 1], "weight_decay": 0}],
            lr=self.rate, capturable=device.type == "cuda", foreach=device.type == "cuda")
        size, batch = config["image_size"], config["batch_size"]
        self.x = torch.zeros(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
        self.targets = torch.zeros(batch, classes, device=device)
        self.live = [tensor for tensor in self.model.state_dict().values() if tensor.is_floating_point()]
        self.average = [tensor.clone() for tensor in self.live]
        self.graph = None

    def amp(self):
        """Autocast to bfloat16; a graph must not keep the casts of weights from one step to the next."""
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)

    def _step(self):
        self.model.zero_grad(set_to_none=True)
        with self.amp():
            logits = self.model(self.x)
        loss = F.cross_entropy(logits.float(), self.targets, label_smoothing=self.config["smoothing"])
        loss.backward()
        if self.config["clip_grad"]:
            nn.utils.clip_grad_norm_(self.others, self.config["clip_grad"])
        self.adamw.step()
        if self.muon:
            self.muon.step()

    def capture(self):
        """Record the step as a graph; the rate is 0 meanwhile, so that no weight changes, but the moments do."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._step()
        for state in self.adamw.state.values():
            for tensor in state.values():
                tensor.zero_()
        for _, momentum in self.muon.stacks if self.muon else ():
            momentum.zero_()
        for layer in self.model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()

    def step(self, number, rate):
        """A step on ``x`` and ``targets`` at this rate, then the average of the weights."""
        self.rate.fill_(rate)
        self.graph.replay() if self.graph else self._step()
        if self.config["ema_decay"] and (number + 1) % 4 == 0:
            decay = min(self.config["ema_decay"], (1 + number) / (10 + number)) ** 4
            torch._foreach_lerp_(self.average, self.live, 1 - decay)

    @torch.no_grad()
    def accuracy(self, images, labels, preprocess, flips):
        """Share of right answers of the averaged weights, where there are any, otherwise of the weights."""
        trained = [tensor.clone() for tensor in self.live]
        if self.config["ema_decay"]:
            torch._foreach_copy_(self.live, self.average)
        self.model.eval()
        right = 0
        for batch, truth in zip(images.split(250), labels.split(250)):
            x = preprocess(batch)[0].contiguous(memory_format=torch.channels_last)
            with self.amp():
                logits = self.model(x).float()
                if flips:
                    logits = logits + self.model(x.flip(3)).float()
            right += int((logits.argmax(1) == truth).sum())
        self.model.train()
        torch._foreach_copy_(self.live, trained)
        return right / len(images)


def learning_rate(config, step, steps_per_epoch):
    total, warmup = config["epochs"] * steps_per_epoch, config["warmup_epochs"] * steps_per_epoch
    if step < warmup:
        return config["lr"] * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(total - warmup, 1)
    return config["lr"] * (1 - done if config["schedule"] == "linear" else 0.5 * (1 + math.cos(math.pi * done)))


def train(config, data, device, every=10, epochs=None):
    """Train once; the row of the record. ``epochs`` ends it early, at that epoch of the whole schedule."""
    torch.manual_seed(config["seed"])
    images, labels = (tensor.to(device) for tensor in data["train"])
    test = [tensor.to(device) for tensor in data["test"]]
    classes = int(labels.max()) + 1
    pixels = images.float()
    mean, std = pixels.mean((0, 2, 3)).reshape(3, 1, 1), pixels.std((0, 2, 3)).reshape(3, 1, 1)
    del pixels
    augment = Augment(config["augment"], config["image_size"], mean, std, classes)
    preprocess = Augment("none", config["image_size"], mean, std, classes)
    training = Training(config, classes, device)
    if device.type == "cuda":
        training.capture()
    batch, steps = config["batch_size"], len(images) // config["batch_size"]
    started, curve, number = time.perf_counter(), [], 0
    mirrored = torch.rand(len(images), device=device) < 0.5
    for epoch in range(epochs or config["epochs"]):
        begin = time.perf_counter()
        order = torch.randperm(len(images), device=device)[:steps * batch]
        for chunk in order.split(CHUNK * batch):
            x, targets = augment(images[chunk], labels[chunk], mirrored[chunk] ^ bool(epoch % 2))
            for first in range(0, len(chunk), batch):
                training.x.copy_(x[first:first + batch])
                training.targets.copy_(targets[first:first + batch])
                training.step(number, learning_rate(config, number, steps))
                number += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
        speed = steps * batch / (time.perf_counter() - begin)
        if (epoch + 1) % every == 0 or epoch + 1 in (1, epochs or config["epochs"]):
            curve.append({"epoch": epoch + 1, "seconds": round(time.perf_counter() - started, 1), **{
                name: training.accuracy(*test, preprocess, flips) for name, flips in (("accuracy", False),
                                                                                     ("with_flips", True))}})
            print(f"{config['mixer']} seed {config['seed']} {curve[-1]} {speed:,.0f} images/s", flush=True)
    return {"mixer": config["mixer"], "seed": config["seed"], "epochs": epoch + 1, "images_per_second": round(speed),
            "curve": curve}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data-file", type=Path, required=True, help="CIFAR-10's archive in its Python layout")
    parser.add_argument("--mixers", nargs="+", choices=MIXERS, default=list(MIXERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=None, help="stop after so many epochs of the schedule")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, required=True, help="the record; one that exists gets further runs")
    options = parser.parse_args()
    config, device = json.loads(options.config.read_text()), torch.device(options.device)
    for name, only in (("model", ("fasternet_t0",)), ("n_div", (4,)), ("drop_path_rate", (None, 0)),
                       ("early_epochs", (0,)), ("final_epochs", (0,))):  # the larger ones have stochastic depth
        if config[name] not in only:
            parser.error(f"{options.config}: {name}={config[name]} is not in this script; it must be {only[0]}")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    data = read_archive(options.data_file)
    record = json.loads(options.out.read_text()) if options.out.exists() else {
        "network": "research/torch_fasternet.py, bfloat16 by autocast", "configs": {}, "runs": []}
    if record["configs"].setdefault(options.config.stem, config) != config:
        parser.error(f"{options.out} has runs of another {options.config.name}; give this one a name of its own")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for mixer in options.mixers:
            run = train({**config, "mixer": mixer, "seed": seed}, data, device, epochs=options.epochs)
            record["runs"].append({
                "config": options.config.stem, **run, "train_images": len(data["train"][0]),
                "test_images": len(data["test"][0]),
                "machine": {"device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
                            "torch": torch.__version__, "python": platform.python_version()}})
            partial = options.out.with_name(options.out.name + ".part")
            partial.write_text(json.dumps(record, indent=1) + "\n")
            partial.replace(options.out)


if __name__ == "__main__":
    main()
