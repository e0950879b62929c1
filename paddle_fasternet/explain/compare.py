"""Several explanations of one image, side by side."""
from .. import plots
from .._check import check_choice
from ..deploy import EAGER
from .gradients import grad_cam, integrated_gradients, smooth_grad, to_map
from .lime import LimeExplainer
from .predict import LayerPredictor, pick_label, predict
from .segments import check_image

METHODS = {"lime": "LIME", "gradcam": "Grad-CAM", "smoothgrad": "SmoothGrad", "intgrad": "integrated gradients"}


def heatmaps(model, image, mean, std, label=None, methods=tuple(METHODS), num_samples=1000, seed=0, engine="auto",
             progress=True):
    """What several methods call important for one class.

    Args:
        model, mean, std: a network and the statistics of its input, 0..255.
        image: at the network's size; see ``LimeExplainer.explain``.
        label: the class; None takes the likeliest.
        methods: of "lime", "gradcam", "smoothgrad", "intgrad".
        num_samples, seed, engine, progress: of LIME; the seed is SmoothGrad's too.

    Returns:
        {method: float [H, W]}. LIME and integrated gradients have negative values, for what speaks against the class.
    """
    methods = [methods] if isinstance(methods, str) else list(methods)
    for method in methods:
        check_choice("method", method, METHODS)
    image = check_image(image)
    eager = LayerPredictor(model, mean, std, EAGER)
    label = pick_label(label, predict(eager, image[None])[0])
    x = eager.normalize(image[None])

    def lime():
        explainer = LimeExplainer(model, mean, std, seed=seed, engine=engine)
        return explainer.explain(image, label, num_samples=num_samples, progress=progress).heatmap()

    draw = {"lime": lime, "gradcam": lambda: grad_cam(model, x, label)[0],
            "smoothgrad": lambda: to_map(smooth_grad(model, x, label, seed=seed))[0],
            "intgrad": lambda: integrated_gradients(model, x, label)[0].sum(0)}
    return {method: draw[method]() for method in methods}


def plot_explanations(model, image, mean, std, label=None, class_names=None, figure=None, **options):
    """Explain one image in several ways and draw all of them beside it.

    Args:
        class_names: for the title.
        **options: of ``heatmaps``, which has the other arguments too.

    Returns:
        The axes, the image's first.
    """
    image = check_image(image)
    probabilities = predict(LayerPredictor(model, mean, std, EAGER), image[None])[0]
    label = pick_label(label, probabilities)
    maps = heatmaps(model, image, mean, std, label, **options)
    name = class_names[label] if class_names else f"class {label}"
    return plots.plot_heatmaps(image, {METHODS[method]: heat for method, heat in maps.items()},
                               f"{name}, {probabilities[label]:.1%}", figure)
