"""Argument checks whose messages name the argument, its value and the way out."""
import difflib


def check_choice(argument, value, choices):
    """Raise ValueError unless ``value`` is one of ``choices``; a near miss is suggested."""
    choices = list(choices)
    if value in choices:
        return
    near = difflib.get_close_matches(str(value).lower(), [str(c) for c in choices], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"{argument}={value!r} is not known{hint} choose from: {', '.join(map(str, choices))}")


def check_number(argument, value, low=None, high=None, integer=False):
    """Raise TypeError or ValueError unless ``value`` is a finite number with low <= value <= high."""
    kind = "an integer" if integer else "a number"
    numeric = hasattr(value, "__index__") if integer else hasattr(value, "__float__")
    if isinstance(value, (bool, str)) or not numeric:
        raise TypeError(f"{argument}={value!r} must be {kind}, not {type(value).__name__}")
    above = low is None or value >= low
    below = high is None or value <= high
    if not (above and below) or value in (float("inf"), float("-inf")) or value != value:
        bounds = [f">= {low}" if low is not None else "", f"<= {high}" if high is not None else ""]
        raise ValueError(f"{argument}={value!r} must be {kind} {' and '.join(b for b in bounds if b)}".rstrip())
