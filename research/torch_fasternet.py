"""FasterNet in PyTorch. Scripts in benchmarks/ time ``infer`` and ``train``; gpu_recipes.py trains the network.

bf16 is autocast. Only PyTorch is imported, so that any Python that has it can run this file.
"""
import torch
from torch import nn

WIDTHS = {"fasternet_t0": (40, (1, 2, 8, 2), nn.GELU), "fasternet_t2": (96, (1, 2, 8, 2), nn.ReLU),
          "fasternet_s": (128, (1, 2, 13, 2), nn.ReLU)}


class PConv(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.part = dim // 4
        self.conv = nn.Conv2d(self.part, self.part, 3, padding=1, bias=False)

    def forward(self, x):
        first, rest = torch.split(x, [self.part, x.shape[1] - self.part], dim=1)
        return torch.cat([self.conv(first), rest], 1)


class DWConv(nn.Conv2d):
    def __init__(self, dim):
        super().__init__(dim, dim, 3, padding=1, groups=dim, bias=False)


MIXERS = {"pconv": PConv, "dwconv": DWConv}


class Block(nn.Module):
    def __init__(self, dim, act, mixer):
        super().__init__()
        self.mixer = MIXERS[mixer](dim)
        self.mlp = nn.Sequential(nn.Conv2d(dim, 2 * dim, 1, bias=False), nn.BatchNorm2d(2 * dim), act(),
                                 nn.Conv2d(2 * dim, dim, 1, bias=False))

    def forward(self, x):
        return x + self.mlp(self.mixer(x))


def build(name, num_classes=1000, patch_size=4, merge_sizes=(2, 2, 2), embed_act=False, embed_overlap=0,
          mixer="pconv"):
    """A variant with random weights; the arguments are those of ``paddle_fasternet.FasterNet``."""
    dim, depths, act = WIDTHS[name]

    def patches(channels, width, step):
        return [nn.Conv2d(channels, width, step + 2 * embed_overlap, step, embed_overlap, bias=False),
                nn.BatchNorm2d(width)] + [act()] * embed_act

    layers = patches(3, dim, patch_size)
    for stage, depth in enumerate(depths):
        if stage:
            layers += patches(dim, 2 * dim, merge_sizes[stage - 1])
            dim *= 2
        layers += [Block(dim, act, mixer) for _ in range(depth)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, 1280, 1, bias=False), act(), nn.Flatten(),
                         nn.Linear(1280, num_classes))


def training_step(model, x, classes, bf16):
    """A function without arguments that makes one step on the batch."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0}],
                                  lr=1e-4)
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.1)
    labels = torch.arange(len(x)) % classes

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = loss_function(model(x), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def inference(model, x, bf16):
    """A function without arguments that runs the network once."""
    model.eval()

    def run():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model(x)

    return run


def _build(name, size, batch, threads, layout, **arguments):
    """(network, input); the layout "compiled" is channels last too."""
    torch.set_num_threads(threads)
    model, x = build(name, **arguments), torch.rand(batch, 3, size, size)
    if layout != "plain":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return torch.compile(model) if layout == "compiled" else model, x


def infer(name, size, batch, precision, threads, layout="compiled"):
    """Contender: one run of the network without gradients."""
    return _warm(inference(*_build(name, size, batch, threads, layout), precision == "bf16"))


def train(name, size, batch, precision, threads, layout="compiled", num_classes=10, **arguments):
    """Contender: a whole step, that is forward, loss with smoothing, backward, AdamW."""
    model, x = _build(name, size, batch, threads, layout, num_classes=num_classes, **arguments)
    return _warm(training_step(model, x, num_classes, precision == "bf16"))


def _warm(call):
    for _ in range(3):
        call()
    return call
