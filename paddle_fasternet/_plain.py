"""Whether a layer computes what its class computes, and where a network holds its layers.

Whoever reads a layer's weights instead of calling it (folding, ONNX, the native engine) asks here first.
"""
import collections
import copy
import functools
import gc
import inspect
import types

import paddle
from paddle import nn

_PACKAGES = ("paddle", __name__.split(".")[0])
# what Paddle calls to run a layer; ``forward`` leads to the other methods
_ENTRIES = ("__call__", "_dygraph_call_func", "forward", "__getattr__", "__getattribute__")


def oddity(layer, kind=None):
    """Why a layer may compute something else than its class, as the rest of a sentence: "has a forward hook, ...".

    Args:
        layer: a Layer. Its sublayers are not looked at (see ``oddities``).
        kind: the class whose computation is expected. None takes the layer's nearest class of Paddle or of this
            package; a class that derives from ``nn.Layer`` alone is expected to compute what it computes.

    Returns:
        "" where the layer is plain: no hooks, no method that ``forward`` reaches replaced in a subclass, on the class
        or on the object, weight and bias parameters of its own.
    """
    kind = kind or _known(type(layer))
    for hooks, when in ((layer._forward_pre_hooks, "pre-hook"), (layer._forward_post_hooks, "post-hook")):
        for hook in hooks.values():
            return f"has a forward {when}, {_title(hook)}"
    own = vars(layer)
    for name in _reached(kind):
        owner, theirs = _attribute(kind, name)
        _, ours = _attribute(type(layer), name)
        if ours is not theirs and _computes(ours):
            return f"has its own {name} (class {type(layer).__name__})"
        if name in own and _computes(theirs):
            return f"has its {name} replaced on the object"
        if _package(owner) in _PACKAGES and _package_of(theirs) not in (None, _package(owner)):
            return f"has its {name} replaced on the class {kind.__name__}"
    hidden = sorted(own.keys() & {*layer._sub_layers, *layer._parameters, *layer._buffers})
    if hidden:
        return f"has an attribute {hidden[0]} that hides its own {hidden[0]}"
    for name in ("weight", "bias") if _package(kind) in _PACKAGES else ():
        if name not in layer._parameters and isinstance(getattr(layer, name, None), paddle.Tensor):
            return f"has a {name} that is no parameter: something else computes it"
    return ""


def oddities(network):
    """Yields (name, oddity) of every odd layer of a network, the network itself included as ""."""
    for name, layer in network.named_sublayers(include_self=True):
        why = oddity(layer)
        if why:
            yield name, why


def copied(network):
    """A deep copy; ValueError that names the layer where there can be none."""
    try:
        return copy.deepcopy(network)
    except Exception as error:
        for name, layer in network.named_sublayers(include_self=True):
            try:
                copy.deepcopy({key: value for key, value in vars(layer).items() if key != "_sub_layers"})
            except Exception as reason:
                raise ValueError(f"{name or 'model'} ({type(layer).__name__}) cannot be copied: {reason}; remove the "
                                 "hook or attribute, or run the network in no_grad() first") from error
        raise


def places(network):
    """{id: [(holder, key), ...]} of every layer, tensor and collection that can be reached from a network.

    Followed are sublayers, parameters, attributes, lists, tuples, dicts, other collections, objects, and what functions
    enclose. ``holder`` is the layer, collection, object or function; ``key`` the name or index there, None where there
    is none. A module's global variables stay unseen.
    """
    found, seen, waiting = collections.defaultdict(list), {}, [network]
    while waiting:
        holder = waiting.pop()
        if id(holder) in seen:
            continue
        seen[id(holder)] = holder  # alive, so that no other object gets its id
        for key, value in _contents(holder):
            leaf = _is_leaf(value)
            if not leaf or isinstance(value, paddle.Tensor):
                found[id(value)].append((holder, key))
            if not leaf:
                waiting.append(value)
    return found


def _contents(holder):
    """(key, value) of all that an object refers to."""
    if isinstance(holder, nn.Layer):
        slots = {"_parameters", "_buffers", "_sub_layers"}
        rest = [(key, value) for key, value in vars(holder).items() if key not in slots]
        return [pair for slot in slots for pair in getattr(holder, slot).items()] + rest
    if isinstance(holder, types.FunctionType):
        cells = zip(holder.__code__.co_freevars, holder.__closure__ or ())
        enclosed = [(name, cell.cell_contents) for name, cell in cells if cell != types.CellType()]
        return [*enclosed, ("defaults", holder.__defaults__), ("defaults", holder.__kwdefaults__)]
    if isinstance(holder, dict):
        named = list(holder.items())
    elif isinstance(holder, (list, tuple)):
        named = list(enumerate(holder))
    else:
        named = list(getattr(holder, "__dict__", {}).items())
    known = {id(getattr(holder, "__dict__", None)), *(id(part) for pair in named for part in pair)}
    return named + [(None, value) for value in gc.get_referents(holder) if id(value) not in known]


def _is_leaf(value):
    """Whether nothing behind a value can hold a layer that the network calls."""
    return (value is None or isinstance(value, (str, bytes, int, float, paddle.Tensor, type, types.ModuleType))
            or (not isinstance(value, nn.Layer) and _package(type(value)) in _PACKAGES))


def _package(cls):
    return cls.__module__.split(".")[0]


def _known(cls):
    """The nearest class of Paddle or of this package, ``cls`` itself where that is only ``nn.Layer``."""
    nearest = next(base for base in cls.__mro__ if _package(base) in _PACKAGES)
    return cls if nearest is nn.Layer else nearest


@functools.cache
def _reached(kind):
    """Names that running a layer of this class reads, directly or through its methods."""
    found, waiting = set(), list(_ENTRIES)
    while waiting:
        name = waiting.pop()
        if name not in found and (name in _ENTRIES or not name.startswith("__")):
            found.add(name)
            waiting += _names(getattr(inspect.unwrap(getattr(kind, name, None)), "__code__", None))
    return sorted(found)


def _names(code):
    if code is None:
        return []
    inner = [value for value in code.co_consts if isinstance(value, types.CodeType)]
    return [*code.co_names, *(name for value in inner for name in _names(value))]


def _computes(attribute):
    """Whether a class attribute is a method or property rather than a value."""
    return callable(attribute) or hasattr(type(attribute), "__get__")


def _attribute(cls, name):
    """(the class in whose body an attribute stands, the attribute as it stands there), or (object, None)."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), object)
    return owner, vars(owner).get(name)


def _package_of(function):
    """The package in which a function was written, whatever it calls itself; None for other values."""
    written = getattr(getattr(function, "__func__", function), "__globals__", None)
    return written and written.get("__name__", "").split(".")[0]


def _title(function):
    return getattr(function, "__qualname__", None) or type(function).__name__
