"""FasterNet in PyTorch, to be timed beside ours; started by other scripts, with a Python that has torch.

    python tests/benchmarks/torch_fasternet.py infer fasternet_t0 224 32 fp32|bf16 THREADS

Each line on its standard input asks for one timed call; the answer is a line with its seconds.
"""
import sys
import time

import torch
from torch import nn

WIDTHS = {"fasternet_t0": (40, (1, 2, 8, 2), nn.GELU), "fasternet_t2": (96, (1, 2, 8, 2), nn.ReLU),
          "fasternet_s": (128, (1, 2, 13, 2), nn.ReLU)}


class Block(nn.Module):
    def __init__(self, dim, act):
        super().__init__()
        self.part = dim // 4
        self.conv = nn.Conv2d(self.part, self.part, 3, padding=1, bias=False)
        self.mlp = nn.Sequential(nn.Conv2d(dim, 2 * dim, 1, bias=False), nn.BatchNorm2d(2 * dim), act(),
                                 nn.Conv2d(2 * dim, dim, 1, bias=False))

    def forward(self, x):
        first, rest = torch.split(x, [self.part, x.shape[1] - self.part], dim=1)
        return x + self.mlp(torch.cat([self.conv(first), rest], 1))


def build(name, num_classes=1000, patch_size=4):
    """A variant with random weights."""
    dim, depths, act = WIDTHS[name]
    layers = [nn.Conv2d(3, dim, patch_size, patch_size, bias=False), nn.BatchNorm2d(dim)]
    for stage, depth in enumerate(depths):
        if stage:
            layers += [nn.Conv2d(dim, 2 * dim, 2, 2, bias=False), nn.BatchNorm2d(2 * dim)]
            dim *= 2
        layers += [Block(dim, act) for _ in range(depth)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, 1280, 1, bias=False), act(), nn.Flatten(),
                         nn.Linear(1280, num_classes))


def main():
    task, name, size, batch, precision, threads = sys.argv[1:]
    assert task == "infer"
    torch.set_num_threads(int(threads))
    model = torch.compile(build(name).eval().to(memory_format=torch.channels_last))
    x = torch.rand(int(batch), 3, int(size), int(size)).to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for _ in range(3):
            model(x)
        print("ready", torch.__version__, flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            model(x)
            print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
