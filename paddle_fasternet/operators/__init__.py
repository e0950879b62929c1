"""The convolution operators of the paper: what they cost, how fast they are here, what they can stand for."""
from .costs import OPERATORS, Cost, build_operator, cost
from .imitate import filter_positions, imitate, layer_inputs
from .measure import ENGINES_OF_ANY_LAYER, make_call, measure_operators, measure_peak, operator_table
from .paper import check_claims, verdicts
from .replace import Replacement, replace_conv

__all__ = [
    "ENGINES_OF_ANY_LAYER", "OPERATORS", "Cost", "Replacement", "build_operator", "check_claims", "cost",
    "filter_positions", "imitate", "layer_inputs", "make_call", "measure_operators", "measure_peak",
    "operator_table", "replace_conv", "verdicts",
]
