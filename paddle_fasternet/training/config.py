"""The settings of a training run."""
import dataclasses
import json
from typing import Optional, Tuple

from .._check import check_choice, check_number, check_sizes
from ..data.augment import parse_augment
from ..layers import MIXERS
from ..model import VARIANTS, create_model

AMP_MODES = ("auto", "off", "bfloat16", "float16")


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
    drop_path_rate: Optional[float] = _setting(None, "stochastic depth of the last block; default: the variant's own")
    image_size: int = _setting(32, "side of the input in pixels")
    epochs: int = _setting(10, "passes over the training set")
    batch_size: int = _setting(256, "images in a step")
    lr: float = _setting(3e-3, "peak learning rate")
    warmup_epochs: float = _setting(1.0, "epochs of linear warm-up; a cosine to zero follows")
    weight_decay: float = _setting(0.05, "AdamW's decay, on weights only: not on normalisation, biases, layer scale")
    smoothing: float = _setting(0.1, "label smoothing")
    clip_grad: float = _setting(1.0, "largest norm of the whole gradient; 0 does not clip")
    augment: str = _setting("standard", "flip,shift=4,cutout or the like, or a preset: none, standard, notebook")
    ema_decay: float = _setting(0.0, "decay of the averaged weights that are then evaluated and saved; 0 keeps none")
    amp: str = _setting("auto", f"mixed precision: {', '.join(AMP_MODES)}; auto uses it on a GPU")
    seed: int = _setting(0, "of initialisation, order, augmentation and stochastic depth")

    def __post_init__(self):
        check_choice("model", self.model, VARIANTS)
        check_choice("mixer", self.mixer, MIXERS)
        check_choice("amp", self.amp, AMP_MODES)
        numbers = {"merge_sizes": check_sizes("merge_sizes", self.merge_sizes, low=1)}
        stages = len(VARIANTS[self.model]["depths"])
        if len(numbers["merge_sizes"]) != stages - 1:
            raise ValueError(f"merge_sizes={self.merge_sizes} must have {stages - 1} entries for {self.model}")
        if not isinstance(self.embed_act, bool):
            raise TypeError(f"embed_act={self.embed_act!r} must be True or False")
        for name in ("n_div", "patch_size", "image_size", "epochs", "batch_size"):
            numbers[name] = check_number(name, getattr(self, name), low=1, integer=True)
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
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} is longer than the training, epochs={self.epochs}")
        parse_augment(self.augment)
        for name, number in numbers.items():  # plain ints, floats and tuples, also out of numpy and JSON
            object.__setattr__(self, name, number)

    @classmethod
    def help_texts(cls):
        """{field: its meaning in a sentence}."""
        return {field.name: field.metadata["help"] for field in dataclasses.fields(cls)}

    @classmethod
    def from_dict(cls, values):
        """The inverse of ``to_dict``; an unknown field is an error that suggests the near one."""
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
                            in_channels=in_channels, **drop_path)
