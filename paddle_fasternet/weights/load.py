"""Weights of any origin into a FasterNet: everything is checked before anything is changed."""
import os
from dataclasses import dataclass, field

import numpy as np
import paddle
from paddle import nn

from .._check import check_type
from .._modes import dynamic
from .arguments import read_arguments, strides_of
from .names import to_ours
from .read import read_nested, widen


@dataclass
class LoadReport:
    """What ``load_weights`` did. Names are the model's, those in ``unexpected`` too where a rule translates them.

    Attributes:
        path: the file.
        origin: whose names it has: "paddle", "official", "timm" or "notebook".
        nest: the entry of the file that holds the weights, e.g. "state_dict"; "" for the file itself.
        loaded: weights taken from the file.
        missing: weights of the model that the file lacks; they stay as they were.
        unexpected: weights in the file that the model lacks.
        mismatched: (name, what the file has, what the model has), shapes or types; the model's stay as they were.
        notes: remarks on what a load with strict=False gives.
        arguments: {argument of ``FasterNet``: value} that the file's shapes ask for and the model was not built with.
    """

    path: str
    origin: str
    nest: str = ""
    loaded: list = field(default_factory=list)
    missing: list = field(default_factory=list)
    unexpected: list = field(default_factory=list)
    mismatched: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    arguments: dict = field(default_factory=dict)

    def __repr__(self):
        wrong = len(self.missing) + len(self.unexpected) + len(self.mismatched)
        return f"LoadReport({self.path!r}, {self.origin} names, {len(self.loaded)} loaded, {wrong} not)"

    def __str__(self):
        source = f"{self.path}{' [' + self.nest + ']' if self.nest else ''}"
        lines = [f"{source} ({self.origin} names): {len(self.loaded)} weights loaded"]
        return "\n".join(lines + self._problems(limit=10) + self.notes)

    def _problems(self, limit):
        mismatched = [f"{name} is {theirs} in the file, {ours} in the model" for name, theirs, ours in self.mismatched]
        return [f"  {title}: {len(found)}: {', '.join(found[:limit])}{', ...' if len(found) > limit else ''}"
                for title, found in [("missing in the file", self.missing), ("not in the model", self.unexpected),
                                     ("mismatched", mismatched)] if found]

    def complaint(self, way_out=None):
        """Why the load is not exact, and the way out (None: that of ``load_weights``); "" if it is.

        With a ``way_out`` the head may differ, so that num_classes is none of the arguments to change.
        """
        problems = self._problems(limit=4)
        if not problems and not self.notes:
            return ""
        total = len(self.loaded) + len(self.mismatched)
        lines = [f"{self.path} ({self.origin} names, {total + len(self.unexpected)} weights) does not fit the model "
                 f"({total + len(self.missing)} weights); nothing was changed."]
        return "\n".join(lines + problems + self.notes + [
            " ".join(filter(None, [self._fitting("num_classes"), way_out])) if way_out else self._way_out()])

    def _way_out(self):
        names = [name for name, _, _ in self.mismatched]
        if not names and not self.missing and not self.unexpected:
            return "strict=False loads it all the same."
        if set(names) == {"head.weight", "head.bias"} and not self.missing and not self.unexpected:
            classes = next(theirs for name, theirs, _ in self.mismatched if name == "head.bias")[0]
            return f"Build the model with num_classes={classes}, or load with strict=False, which leaves the head out."
        if any(name.startswith(("norm0.", "norm2.", "norm4.", "norm6.")) for name in self.unexpected):
            return "This is a detection backbone, without a head: strict=False loads its stages."
        return (f"{self._fitting() or 'Is it another variant, or another n_div, mlp_ratio or mixer?'} "
                "strict=False takes what fits.")

    def _fitting(self, *but):
        """The sentence that names the arguments for which the file asks, without those in ``but``; "" for none."""
        from .pretrained import PUBLISHED  # that module builds on this one
        asked = {name: value for name, value in self.arguments.items() if name not in but}
        width, depths = asked.get("embed_dim"), asked.get("depths")
        variant = next((name for name, (_, *own) in PUBLISHED.items() if own == [width, depths]), None)
        if variant:
            asked = {name: value for name, value in asked.items() if name not in ("embed_dim", "depths")}
        said = [variant] * bool(variant) + [
            f"{name} {value}" if value == "above 0" else f"{name}={value:g}" if isinstance(value, float)
            else f"{name}={value!r}" for name, value in asked.items()]
        return f"Build the model with {', '.join(said)}: the file's shapes ask for it." if said else ""


@dynamic
def load_weights(model, path, strict=True):
    """Load a weight file of any of the four origins into a model; nothing in the file is executed.

    Args:
        model: a FasterNet, with any mixer.
        path: .pdparams, .pth or .pt (torch 1.6 and later), or .safetensors; see ``read_weights``.
        strict: True takes the file whole or raises; False takes the weights that fit and reports the others.

    Returns:
        ``LoadReport``; print it.

    Raises:
        ValueError: the file cannot be read, or is no FasterNet's, or does not fit (or, with strict=False, has nothing
            that fits). The model is then as it was.
        OSError: there is no such file.
    """
    check_type("model", model, nn.Layer)
    check_type("strict", strict, bool)
    report, values = match_weights(model, path)
    if strict and report.complaint():
        raise ValueError(report.complaint())
    if not values:
        raise ValueError(f"nothing in the file fits the model.\n{report}")
    apply_weights(values)
    model.pretrained_facts = None  # they were those of other weights
    return report


def load_arrays(path):
    """(origin, {our name: array}): the weights in a file of any of the four origins, see ``load_weights``."""
    return _read_ours(path)[:2]


def _read_ours(path):
    """(origin, {our name: array}, nest)."""
    arrays, nest = read_nested(path)
    try:
        origin, arrays = to_ours(arrays)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} cannot be loaded: {error}") from None
    return origin, {name: widen(array) for name, array in arrays.items()}, nest


def match_weights(model, path, adapt=None):
    """(report, values): what a load would do, and the pairs (parameter, new value) for it. Changes nothing.

    adapt: a function (array of the file, the model's shape) -> array; it may fit the one to the other.
    """
    origin, arrays, nest = _read_ours(path)
    report = LoadReport(os.fspath(path), origin, nest)
    shapes = {name: tuple(map(int, array.shape)) for name, array in arrays.items()}
    values = []
    for name, parameter in model.state_dict().items():
        if name not in arrays:
            report.missing.append(name)
            continue
        array = arrays.pop(name)
        array = adapt(array, list(parameter.shape)) if adapt else array
        theirs, ours = list(array.shape), list(parameter.shape)
        if theirs == ours and not np.issubdtype(array.dtype, np.floating):
            theirs, ours = str(array.dtype), str(parameter.dtype).replace("paddle.", "")
        if theirs != ours:
            report.mismatched.append((name, theirs, ours))
            continue
        values.append((parameter, paddle.to_tensor(np.ascontiguousarray(array)).astype(parameter.dtype)))
        report.loaded.append(name)
    report.unexpected = list(arrays)
    report.arguments = {} if adapt else _asked(shapes, model)
    embeddings = getattr(model, "patch_embed", None)
    if origin == "notebook" and isinstance(getattr(embeddings, "act", None), nn.Identity):
        report.notes.append("The 2023 notebook's network has an activation behind its stem and merging layers: build "
                            "the model with embed_act=True, or its answers will differ.")
    return report, values


def _asked(shapes, model):
    """The arguments with which ``FasterNet`` has a file's shapes, as far as the model was built with others."""
    strides = strides_of(model)
    ours = read_arguments({name: tuple(value.shape) for name, value in model.state_dict().items()}, strides)
    try:
        theirs = read_arguments(shapes, strides)
    except (IndexError, KeyError, ZeroDivisionError):  # shapes that no layer has
        return {}
    asked = {name: value for name, value in theirs.items() if name in ours and ours[name] != value}
    if {"embed_dim", "depths"} & set(asked):  # together they are the variant
        asked = {"embed_dim": theirs["embed_dim"], "depths": theirs["depths"], **asked}
    return asked


def apply_weights(values):
    """Carry out what ``match_weights`` prepared."""
    for parameter, value in values:
        parameter.set_value(value)
