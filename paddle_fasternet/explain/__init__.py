"""Explanations of single predictions, and how true they are to the model."""
from .compare import METHODS, heatmaps, plot_explanations
from .faithfulness import Faithfulness, average, measure_faithfulness, random_faithfulness
from .gradients import grad_cam, integrated_gradients, smooth_grad, to_map
from .lime import Explanation, LimeExplainer
from .segments import segment

__all__ = ["METHODS", "Explanation", "Faithfulness", "LimeExplainer", "average", "grad_cam", "heatmaps",
           "integrated_gradients", "measure_faithfulness", "plot_explanations", "random_faithfulness", "segment",
           "smooth_grad", "to_map"]
