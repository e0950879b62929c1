"""Settings that belong together, by name: what differs from ``TrainConfig``'s own defaults."""

_CPU = dict(init="he", merge_sizes=(1, 2, 2), embed_overlap=1, optimizer="muon", lr=4e-3, ema_decay=0.998,
            flip_test=True)

RECIPES = {
    # those of the 2023 notebook
    "notebook": dict(patch_size=4, embed_act=True, image_size=224, epochs=100, lr=1e-3, warmup_epochs=0,
                     weight_decay=0.005, clip_grad=0, augment="notebook"),
    # one GPU
    "gpu": dict(patch_size=1, init="he", epochs=100, batch_size=512, lr=4e-3, warmup_epochs=5,
                augment="flip,shift=4,cutout,mixup", ema_decay=0.999, flip_test=True),
    # photographs of one's own, from weights: fit(..., pretrained=...). The stages are those of the shipped weights;
    # ImageNet's are kept whole by merge_sizes=(2, 2, 2), embed_overlap=0
    "finetune": dict(patch_size=4, merge_sizes=(1, 2, 2), embed_overlap=1, init="he", image_size=128, epochs=20,
                     batch_size=64, optimizer="muon", lr=3e-3, weight_decay=0.1, ema_decay=0.998,
                     augment="crop=0.35,flip,jitter=0.2", flip_test=True),
    # two cores and five minutes
    "short": dict(init="he", optimizer="muon", epochs=6, lr=4e-3, flip_test=True),
    # two cores with AVX512-BF16 and an hour
    "cpu": dict(_CPU, epochs=25, weight_decay=0.3, augment="altflip,shift=4,cutout=0.2"),
    # two cores with AMX and an hour
    "cpu-long": dict(_CPU, epochs=60, weight_decay=0.15, augment="altflip,shift=4,cutout"),
}
