"""The settings of a training run."""
import dataclasses
import json
from typing import Optional, Tuple

from .._check import check_choice, check_number, check_sizes, check_type
from ..data.augment import parse_augment
from ..layers import ACTIVATIONS
from ..mixers import KERNEL_SIZE, MIXERS, check_mixer
from ..model import INITS, VARIANTS, create_model, plain_name
from .recipes import RECIPES

AMP_MODES = ("auto", "off", "bfloat16", "float16")
OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "linear")
KERNELS = ("auto", "native", "paddle")
FREEZES = ("", "backbone")
BALANCES = ("", "weights", "sampling")


class Unchosen(int):
    """An integer that nobody chose: ``fit`` may take another where it does not suit the images."""


def _setting(default, text, kind=None, low=None, high=None, choices=None):
    """A field with its meaning, which the command line shows as help, and the values that it takes.

    ``kind`` is the type of a value; it is needed where that is not the type of ``default``. ``low`` and ``high`` bound
    a number, or each number of a tuple.
    """
    kind = kind or type(default)
    return dataclasses.field(default=default, metadata={"help": text, "kind": kind, "low": low, "high": high,
                                                        "choices": choices})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run but the data. Every field is checked; the fields' meanings are in ``help_texts()``.

    Raises:
        TypeError, ValueError: a field is unknown, of a wrong type or out of range; the message names it.
    """

    model: str = _setting("fasternet_t0", f"network: {', '.join(VARIANTS)}", choices=VARIANTS)
    mixer: str = _setting("pconv", f"spatial mixer of every block: {', '.join(MIXERS)}, or one of register_mixer")
    n_div: int = _setting(4, "PConv convolves one in this many channels", low=1)
    kernel_size: int = _setting(KERNEL_SIZE, "side of the mixer's kernel", low=1)
    act: Optional[str] = _setting(None, f"activation: {', '.join(ACTIVATIONS)}; default: the variant's own", kind=str,
                                  choices=ACTIVATIONS)
    patch_size: int = _setting(2, "side of the stem's patches in pixels (the paper's 4 is for 224 pixels)", low=1)
    merge_sizes: Tuple[int, ...] = _setting((2, 2, 2), "strides of the merging layers; 1 keeps the resolution", low=1)
    embed_act: bool = _setting(False, "an activation behind the stem and the merging layers, as the 2023 notebook had")
    embed_overlap: int = _setting(0, "pixels by which patches of stem and merging layers reach into their neighbours",
                                  low=0)
    drop_path_rate: Optional[float] = _setting(None, "stochastic depth of the last block; default: the variant's own",
                                               kind=float, low=0, high=1)
    init: str = _setting("paper", f"initialisation: {', '.join(INITS)}", choices=INITS)
    image_size: int = _setting(32, "side of the input in pixels", low=1)
    epochs: int = _setting(10, "passes over the training set", low=1)
    batch_size: int = _setting(Unchosen(256), "images in a step; unless given, fewer for a small set", kind=int,
                               low=1)
    optimizer: str = _setting("adamw", "adamw; or muon, which orthogonalises the updates of the blocks' and merging "
                                       "layers' weights and leaves the others to AdamW", choices=OPTIMIZERS)
    lr: float = _setting(3e-3, "peak learning rate", low=0)
    schedule: str = _setting("cosine", f"the learning rate's way down to zero: {', '.join(SCHEDULES)}",
                             choices=SCHEDULES)
    warmup_epochs: float = _setting(1.0, "epochs of linear warm-up; the way down follows", low=0)
    weight_decay: float = _setting(0.05, "decay of the weights only: not of normalisation, biases, layer scale", low=0)
    smoothing: float = _setting(0.1, "label smoothing", low=0, high=1)
    clip_grad: float = _setting(1.0, "largest norm of AdamW's whole gradient; 0 does not clip", low=0)
    augment: str = _setting("standard", "flip,shift=4,cutout or the like, or a preset: none, standard, notebook")
    final_epochs: int = _setting(0, "so many last epochs have the augmentation final_augment", low=0)
    final_augment: str = _setting("flip", "augmentation of the last epochs, if there are final_epochs")
    early_epochs: int = _setting(0, "so many first epochs are at early_size", low=0)
    early_size: int = _setting(24, "side of the input in the first epochs, if there are early_epochs", low=1)
    flip_test: bool = _setting(False, "evaluate with the mean over each image and its mirror image")
    ema_decay: float = _setting(0.0, "decay of the averaged weights that are then evaluated and saved; 0 keeps none",
                                low=0, high=1)
    kernels: str = _setting("auto", f"what computes a step: {', '.join(KERNELS)}; auto takes the native kernels on a "
                                    "CPU where they can be had", choices=KERNELS)
    amp: str = _setting("auto", f"mixed precision: {', '.join(AMP_MODES)}; auto uses it on a GPU, and in the native "
                                "kernels on a CPU with AVX512-BF16 or AMX; Paddle's layers have none on a CPU",
                        choices=AMP_MODES)
    freeze: str = _setting("", "backbone: from weights to start from, train only the head and what is fresh",
                           choices=FREEZES)
    backbone_lr: float = _setting(1.0, "factor on the learning rate of all but the head and what is fresh, where there "
                                       "are weights to start from", low=0)
    balance: str = _setting("", "of uneven classes: weights in the loss, or sampling, as many images of each",
                            choices=BALANCES)
    deterministic: bool = _setting(False, "on a GPU, only convolutions that give the same result each time; slower. "
                                          "Those of a CPU do")
    seed: int = _setting(0, "of initialisation, order, augmentation and stochastic depth", low=0, high=2**63 - 1)

    def __post_init__(self):
        for field in dataclasses.fields(TrainConfig):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        check_mixer(self.mixer, self.kernel_size)
        stages = len(VARIANTS[self.model]["depths"])
        if len(self.merge_sizes) != stages - 1:
            raise ValueError(f"merge_sizes={self.merge_sizes} must have {stages - 1} entries for {self.model}")
        if self.lr == 0:
            raise ValueError("lr=0 would train nothing")
        if self.backbone_lr == 0:
            raise ValueError("backbone_lr=0: freeze='backbone' leaves the backbone as it is, in less time")
        if self.batch_size == 1:
            raise ValueError("batch_size=1: normalisation by the batch needs at least 2 images")
        for name in ("warmup_epochs", "early_epochs", "final_epochs"):
            if getattr(self, name) > self.epochs:
                raise ValueError(f"{name}={getattr(self, name)} is longer than the training, epochs={self.epochs}")
        parse_augment(self.augment)
        parse_augment(self.final_augment, "final_augment")

    @classmethod
    def recipe(cls, name, **changes):
        """The settings of a recipe, one of ``RECIPES``; ``changes`` are over its own.

        Raises:
            TypeError, ValueError: the recipe or a setting is unknown, or a value is out of range.
        """
        check_choice("recipe", name, RECIPES)
        settings = dict(RECIPES[name])
        if "batch_size" in settings:
            settings["batch_size"] = Unchosen(settings["batch_size"])
        return cls.from_dict({**settings, **changes})

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
        changes = {} if self.drop_path_rate is None else {"drop_path_rate": self.drop_path_rate}
        if self.act is not None:
            changes["act_layer"] = ACTIVATIONS[self.act]
        return create_model(self.model, num_classes=num_classes, mixer=self.mixer, n_div=self.n_div,
                            kernel_size=self.kernel_size, patch_size=self.patch_size, merge_sizes=self.merge_sizes,
                            embed_act=self.embed_act, embed_overlap=self.embed_overlap, init=self.init,
                            in_channels=in_channels, **changes)


def check_config(config):
    """Raise unless ``config`` is a ``TrainConfig`` whose network ``load_run`` can build from ``config.json`` alone.

    Raises:
        TypeError: it is something else.
        ValueError: it is of a subclass with another ``build_model`` or further fields.
    """
    check_type("config", config, TrainConfig)
    kind = type(config).__name__
    if type(config).build_model is not TrainConfig.build_model or "build_model" in vars(config):
        raise ValueError(f"config is a {kind} with a build_model of its own, so load_run could not build its network "
                         "from config.json; describe the network by fields of TrainConfig, and a mixer of your own by "
                         "register_mixer")
    further = set(vars(config)) - {field.name for field in dataclasses.fields(TrainConfig)}
    if further:
        raise ValueError(f"config is a {kind} with the further field {min(further)!r}, which load_run would not know; "
                         "use the fields of TrainConfig")


def _checked(field, value):
    """The value of a field as a plain int, float, tuple, also out of numpy and JSON; raises where it is not allowed."""
    name, wanted = field.name, field.metadata
    if value is None and field.default is None:
        return None
    if name == "model":
        value = plain_name(value)
    if wanted["choices"] is not None:
        check_choice(name, value, wanted["choices"])
    elif wanted["kind"] is bool:
        if not isinstance(value, bool):
            raise TypeError(f"{name}={value!r} must be True or False")
    elif wanted["kind"] is tuple:
        return check_sizes(name, value, low=wanted["low"])
    elif wanted["kind"] in (int, float):
        number = check_number(name, value, low=wanted["low"], high=wanted["high"], integer=wanted["kind"] is int)
        return value if isinstance(value, Unchosen) else number
    return value
