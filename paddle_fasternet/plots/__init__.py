"""Every figure of the library.

Each function draws on a new pyplot figure, or on the ``figure`` it is given, and returns its axes, so that a notebook
shows it once; ``save_figure`` draws straight to a file and leaves pyplot alone.
"""
from .explanations import plot_explanation, plot_faithfulness, plot_heatmaps
from .images import confusion_matrix, plot_class_accuracy, plot_confusion, show_images
from .mistakes import plot_top_losses
from .runs import describe_shares, plot_accuracy, plot_histories, plot_history, plot_learning_curve, plot_tradeoff
from .speed import plot_engines, plot_imitation, plot_roofline, plot_speed
from .style import PICTURES, save_figure

__all__ = ["PICTURES", "confusion_matrix", "describe_shares", "plot_accuracy", "plot_class_accuracy", "plot_confusion",
           "plot_engines", "plot_explanation", "plot_faithfulness", "plot_heatmaps", "plot_histories", "plot_history",
           "plot_imitation", "plot_learning_curve", "plot_roofline", "plot_speed", "plot_top_losses", "plot_tradeoff",
           "save_figure", "show_images"]
