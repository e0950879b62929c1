"""Argument checks whose messages name the argument, its value and the way out."""
import difflib
import numbers
import os
from pathlib import Path

_LARGEST = 2**31 - 1  # of integers: what sizes and counts fit into everywhere


def check_choice(argument, value, choices):
    """Raise ValueError unless ``value`` is one of ``choices``; a near miss is suggested."""
    choices = list(choices)
    if isinstance(value, str) and value in choices:
        return
    near = difflib.get_close_matches(str(value).lower(), [str(c) for c in choices], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"{argument}={value!r} is not known{hint} choose from: {', '.join(map(str, choices))}")


def check_type(argument, value, kind):
    """Raise TypeError unless ``value`` is an instance of ``kind``."""
    if not isinstance(value, kind):
        raise TypeError(f"{argument} must be a {kind.__name__}, not {type(value).__name__}")


def check_number(argument, value, low=None, high=None, integer=False):
    """``value`` as int or float (a numpy number comes as well), if it is a finite number with low <= value <= high.

    Raises:
        TypeError, ValueError: it is not.
    """
    kind = "an integer" if integer else "a number"
    if integer and high is None:
        high = _LARGEST
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if integer else numbers.Real):
        raise TypeError(f"{argument}={value!r} must be {kind}, not {type(value).__name__}")
    above = low is None or value >= low
    below = high is None or value <= high
    if not (above and below) or value != value or abs(value) == float("inf"):
        bounds = [f">= {low}" if low is not None else "", f"<= {high}" if high is not None else ""]
        raise ValueError(f"{argument}={value!r} must be {kind} {' and '.join(b for b in bounds if b)}".rstrip())
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def check_sizes(argument, values, low):
    """``values`` as a tuple of ints >= low; TypeError or ValueError otherwise."""
    try:
        given = None if isinstance(values, (str, bytes)) else tuple(values)
    except TypeError:
        given = None
    if given is None:
        raise TypeError(f"{argument}={values!r} must be a sequence of integers such as (2, 2, 2)")
    if not all(isinstance(value, numbers.Integral) and low <= value <= _LARGEST for value in given):
        raise ValueError(f"{argument}={values!r} must hold integers >= {low}")
    return tuple(int(value) for value in given)


def check_names(argument, values, letters=False):
    """``values`` as a tuple of texts; TypeError unless they are a list of names. ``letters``: a text is its letters."""
    if isinstance(values, bytes if letters else (str, bytes)):
        listed = None
    else:
        try:
            listed = tuple(map(str, values))
        except TypeError:
            listed = None
    if listed is None:
        raise TypeError(f"{argument}={values!r} must be a list of names")
    return listed


def check_path(argument, value):
    """``value`` as a Path, "~" expanded.

    Raises:
        TypeError: it is no text and no path. A number would be an open file's, which opening it would then close.
        ValueError: it is empty, which would be the present folder.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{argument}={value!r} must be a path, not {type(value).__name__}")
    if not os.fspath(value):
        raise ValueError(f"{argument}='' is no path; '.' is the present folder")
    return Path(value).expanduser()
