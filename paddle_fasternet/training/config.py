"""The settings of a training run."""
import dataclasses
import json
from typing import Optional, Tuple

from .._check import check_choice, check_number, check_sizes, check_type
from ..data.augment import parse_augment
from ..layers import MIXERS
from ..model import INITS, VARIANTS, create_model
from .recipes import RECIPES

AMP_MODES = ("auto", "off", "bfloat16", "float16")
OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "linear")
KERNELS = ("auto", "native", "paddle")


def _setting(default, text):
    """A field with its meaning, which the command line shows as help."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run but the data. Every field is checked; the fields' meanings are in ``help_texts()``.

    Raises:
        TypeError, ValueError: a field is unknown, of a wrong type or out of range; the message names it.
    """

    model: str = _setting("fasternet_t0", f"network: {', '.join(VARIANTS)}")
    mixer: str = _setting("pconv", f"spatial mixer of every block: {', '.join(MIXERS)}")
    n_div: int = _setting(4, "PConv convolves one in this many channels")
    patch_size: int = _setting(2, "side of the stem's patches in pixels (the paper's 4 is for 224 pixels)")
    merge_sizes: Tuple[int, ...] = _setting((2, 2, 2), "strides of the merging layers; 1 keeps the resolution")
    embed_act: bool = _setting(False, "an activation behind the stem and the merging layers, as the 2023 notebook had")
    embed_overlap: int = _setting(0, "pixels by which patches of stem and merging layers reach into their neighbours")
    drop_path_rate: Optional[float] = _setting(None, "stochastic depth of the last block; default: the variant's own")
    init: str = _setting("paper", f"initialisation: {', '.join(INITS)}")
    image_size: int = _setting(32, "side of the input in pixels")
    epochs: int = _setting(10, "passes over the training set")
    batch_size: int = _setting(256, "images in a step")
    optimizer: str = _setting("adamw", "adamw; or muon, which orthogonalises the updates of the blocks' and merging "
                                       "layers' weights and leaves the others to AdamW")
    lr: float = _setting(3e-3, "peak learning rate")
    schedule: str = _setting("cosine", f"the learning rate's way down to zero: {', '.join(SCHEDULES)}")
    warmup_epochs: float = _setting(1.0, "epochs of linear warm-up; the way down follows")
    weight_decay: float = _setting(0.05, "decay of the weights only: not of normalisation, biases, layer scale")
    smoothing: float = _setting(0.1, "label smoothing")
    clip_grad: float = _setting(1.0, "largest norm of AdamW's whole gradient; 0 does not clip")
    augment: str = _setting("standard", "flip,shift=4,cutout or the like, or a preset: none, standard, notebook")
    final_epochs: int = _setting(0, "so many last epochs have the augmentation final_augment")
    final_augment: str = _setting("flip", "augmentation of the last epochs, if there are final_epochs")
    early_epochs: int = _setting(0, "so many first epochs are at early_size")
    early_size: int = _setting(24, "side of the input in the first epochs, if there are early_epochs")
    flip_test: bool = _setting(False, "evaluate with the mean over each image and its mirror image")
    ema_decay: float = _setting(0.0, "decay of the averaged weights that are then evaluated and saved; 0 keeps none")
    kernels: str = _setting("auto", f"what computes a step: {', '.join(KERNELS)}; auto takes the native kernels on a "
                                    "CPU where they can be had")
    amp: str = _setting("auto", f"mixed precision: {', '.join(AMP_MODES)}; auto uses it on a GPU, and in the native "
                                "kernels on a CPU with AVX512-BF16 or AMX; Paddle's layers have none on a CPU")
    seed: int = _setting(0, "of initialisation, order, augmentation and stochastic depth")

    def __post_init__(self):
        check_choice("model", self.model, VARIANTS)
        check_choice("mixer", self.mixer, MIXERS)
        check_choice("init", self.init, INITS)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("kernels", self.kernels, KERNELS)
        check_choice("amp", self.amp, AMP_MODES)
        numbers = {"merge_sizes": check_sizes("merge_sizes", self.merge_sizes, low=1)}
        stages = len(VARIANTS[self.model]["depths"])
        if len(numbers["merge_sizes"]) != stages - 1:
            raise ValueError(f"merge_sizes={self.merge_sizes} must have {stages - 1} entries for {self.model}")
        for name in ("embed_act", "flip_test"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}={getattr(self, name)!r} must be True or False")
        for name in ("n_div", "patch_size", "image_size", "early_size", "epochs", "batch_size"):
            numbers[name] = check_number(name, getattr(self, name), low=1, integer=True)
        for name in ("embed_overlap", "early_epochs", "final_epochs"):
            numbers[name] = check_number(name, getattr(self, name), low=0, integer=True)
        numbers["seed"] = check_number("seed", self.seed, low=0, high=2**63 - 1, integer=True)
        for name, low, high in [("lr", 0, None), ("warmup_epochs", 0, None), ("weight_decay", 0, None),
                                ("smoothing", 0, 1), ("clip_grad", 0, None), ("ema_decay", 0, 1)]:
            numbers[name] = check_number(name, getattr(self, name), low=low, high=high)
        if self.drop_path_rate is not None:
            numbers["drop_path_rate"] = check_number("drop_path_rate", self.drop_path_rate, low=0, high=1)
        if self.lr == 0:
            raise ValueError("lr=0 would train nothing")
        if self.batch_size == 1:
            raise ValueError("batch_size=1: normalisation by the batch needs at least 2 images")
        for name in ("warmup_epochs", "early_epochs", "final_epochs"):
            if getattr(self, name) > self.epochs:
                raise ValueError(f"{name}={getattr(self, name)} is longer than the training, epochs={self.epochs}")
        parse_augment(self.augment)
        parse_augment(self.final_augment, "final_augment")
        for name, number in numbers.items():  # plain ints, floats and tuples, also out of numpy and JSON
            object.__setattr__(self, name, number)

    @classmethod
    def recipe(cls, name, **changes):
        """The settings of a recipe, one of ``RECIPES``; ``changes`` are over its own.

        Raises:
            TypeError, ValueError: the recipe or a setting is unknown, or a value is out of range.
        """
        check_choice("recipe", name, RECIPES)
        return cls.from_dict({**RECIPES[name], **changes})

    @classmethod
    def help_texts(cls):
        """{field: its meaning in a sentence}."""
        return {field.name: field.metadata["help"] for field in dataclasses.fields(cls)}

    @classmethod
    def from_dict(cls, values):
        """The inverse of ``to_dict``; an unknown field is an error that suggests the near one."""
        check_type("values", values, dict)
        for name in values:
            check_choice("config field", name, cls.help_texts())
        return cls(**values)

    def to_dict(self):
        """Plain values, as ``config.json`` holds them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def build_model(self, num_classes, in_channels=3):
        """The network that these settings describe."""
        drop_path = {} if self.drop_path_rate is None else {"drop_path_rate": self.drop_path_rate}
        return create_model(self.model, num_classes=num_classes, mixer=self.mixer, n_div=self.n_div,
                            patch_size=self.patch_size, merge_sizes=self.merge_sizes, embed_act=self.embed_act,
                            embed_overlap=self.embed_overlap, init=self.init, in_channels=in_channels, **drop_path)
