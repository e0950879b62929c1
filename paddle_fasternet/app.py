"""A page for one network: drop pictures, see the likeliest classes, and what in the picture speaks for them.

``paddle-fasternet app --run RUN`` serves it. The page is made with Gradio (https://www.gradio.app), whose HTTP
interface comes with it; see ``build``.
"""
import io
import logging
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np

from . import plots
from ._check import check_number, check_path
from .data import read_image
from .data.augment import resize
from .data.images import fit_channels
from .data.scan import pictures
from .explain import METHODS, LimeExplainer
from .explain.gradients import grad_cam

_MOST_PICTURES = 64  # in one request
_EXPLAINED_SIZE = 128  # pixels: superpixels of a smaller picture are too coarse to look at

_TEXTS = {
    "title": "# FasterNet：图像分类 / image classification",
    "drop": "把一张或多张图片拖到这里 / Drop one picture or several",
    "examples": "示例图片 / example pictures",
    "answers": "识别结果 / answers",
    "classes": "最可能的类别 / likeliest classes",
    "explain": "为什么？ / Why?",
    "explanation": "依据：绿或蓝支持，红反对 / green or blue speaks for the class, red against it",
}


class Service:
    """What the page calls: classifies picture files and explains one of them. Safe to call from several threads.

    Args:
        predictor: a ``Predictor``.
        network: the ``nn.Layer`` behind it, for Grad-CAM; None where there is only an exported folder.
        top: how many classes an answer names.
        samples: pictures with hidden parts that LIME tries.
    """

    def __init__(self, predictor, network=None, top=5, samples=500):
        self.predictor, self.network = predictor, network
        self.top = check_number("top", top, low=1, integer=True)
        self.samples = check_number("samples", samples, low=1, integer=True)
        self._gradients = threading.Lock()  # hooks and modes of one network: one explanation at a time

    def classify(self, paths):
        """The likeliest classes of each picture.

        Args:
            paths: of image files; at most 64.

        Returns:
            (answers, problems): a list of (path, {class name: probability}), the likeliest class first; and a sentence
            for each file that is not a picture.
        """
        from PIL import Image
        good, problems = [], []
        for path in list(paths)[:_MOST_PICTURES]:
            try:
                good.append((path, Image.fromarray(read_image(path).transpose(1, 2, 0))))
            except (OSError, ValueError):
                problems.append(f"{Path(path).name}：不是可读取的图片 / is not a picture that can be read")
        if len(paths) > _MOST_PICTURES:
            problems.append(f"一次最多 {_MOST_PICTURES} 张，其余未处理 / only the first {_MOST_PICTURES} of "
                            f"{len(paths)} pictures were taken")
        named = self.predictor.classify([image for _, image in good], self.top)
        return [(path, dict(answer)) for (path, _), answer in zip(good, named)], problems

    def explain(self, path):
        """LIME and Grad-CAM for the likeliest class, drawn over the picture.

        Returns:
            A PIL image.

        Raises:
            OSError, ValueError: the file is not a picture.
        """
        pixels = read_image(path)[None].astype(np.float32)
        image = resize(pixels, max(self.predictor.image_size, _EXPLAINED_SIZE))[0]
        with self._gradients:
            # ridge: a picture may have more superpixels than there are samples
            explainer = LimeExplainer(self.predictor, regressor="ridge")
            image = image.round().astype(np.uint8).transpose(1, 2, 0)
            found = explainer.explain(image, num_samples=self.samples, progress=False)
            maps = {METHODS["lime"]: found.heatmap()}
            if self.network is not None:
                mean, std = (np.reshape(values, (-1, 1, 1)) for values in (self.predictor.mean, self.predictor.std))
                shown = fit_channels(resize(pixels, self.predictor.image_size).transpose(0, 2, 3, 1), len(mean))
                x = ((shown.transpose(0, 3, 1, 2) - mean) / std).astype(np.float32)
                cam = grad_cam(self.network, x, found.labels[0])
                maps[METHODS["gradcam"]] = resize(cam[None], image.shape[0])[0, 0]
        return _drawn(image, maps, f"{found.name()}, {found.prediction[found.labels[0]]:.1%}")


def _drawn(image, maps, title):
    """``plots.plot_heatmaps`` as a PIL image."""
    from matplotlib.figure import Figure
    from PIL import Image
    figure, file = Figure(), io.BytesIO()
    plots.plot_heatmaps(image, maps, title, figure)
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    return Image.open(file)


def example_pictures(folder, most=8):
    """Paths of up to ``most`` pictures in ``folder`` and its subfolders, one of each subfolder in turn."""
    folder = check_path("examples", folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"examples={str(folder)!r}: there is no such folder")
    groups = {}
    for path in pictures(folder):
        groups.setdefault(os.path.dirname(path), []).append(path)
    found = [paths[i] for i in range(most) for paths in groups.values() if i < len(paths)]
    return found[:most]


def build(service, examples=()):
    """The page, a ``gradio.Blocks``.

    Two of its functions are an HTTP interface, for which three lines of Python do::

        from gradio_client import Client, handle_file
        client = Client("http://127.0.0.1:7860")
        print(client.predict([handle_file("cat.png")], api_name="/classify"))

    Args:
        service: a ``Service``.
        examples: paths of pictures to try.

    Raises:
        ImportError: Gradio is not installed.
    """
    gr, examples = _gradio(), list(examples)

    def answer(paths):
        if not paths:
            return [], None, "", None, []
        start = time.perf_counter()
        answers, problems = service.classify(paths)
        seconds = time.perf_counter() - start
        lines = [f"**{problem}**" for problem in problems]
        if answers:
            predictor = service.predictor
            lines.append(f"{predictor.engine}, {predictor.precision}: {1e3 * seconds / len(answers):.1f} ms 一张 / a "
                         f"picture, {len(answers)} 张 / in all")
        captioned = [(path, f"{next(iter(classes))} {next(iter(classes.values())):.1%}") for path, classes in answers]
        path, best = answers[0] if answers else (None, None)
        return captioned, best, "\n\n".join(lines), path, answers

    def choose(answers, event: gr.SelectData):
        path, classes = answers[event.index]
        return classes, path

    def take_example(event: gr.SelectData):
        return [examples[event.index]]

    def as_json(paths):
        answers, problems = service.classify(paths or [])
        return {"answers": [{"file": Path(path).name, "classes": classes} for path, classes in answers],
                "problems": problems}

    def explain(path):
        if not path:
            raise gr.Error("请先选择图片 / choose a picture first")
        try:
            return service.explain(path)
        except (OSError, ValueError) as error:
            raise gr.Error(str(error)) from error

    # the browser's own fonts: Gradio's default ones come from elsewhere
    theme = {"theme": gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])}
    in_constructor = int(gr.__version__.split(".")[0]) < 6
    with gr.Blocks(title="FasterNet", analytics_enabled=False, **(theme if in_constructor else {})) as page:
        gr.Markdown(_TEXTS["title"])
        chosen, answered = gr.State(None), gr.State([])
        with gr.Row():
            with gr.Column():
                files = gr.File(label=_TEXTS["drop"], file_count="multiple", type="filepath")
                if examples:
                    thumbnails = gr.Gallery(examples, label=_TEXTS["examples"], columns=6, height=130,
                                            allow_preview=False)
                    thumbnails.select(take_example, None, files, api_name=False)
                gallery = gr.Gallery(label=_TEXTS["answers"], columns=4, height=300)
            with gr.Column():
                classes = gr.Label(label=_TEXTS["classes"], num_top_classes=service.top)
                status = gr.Markdown()
                why = gr.Button(_TEXTS["explain"], variant="primary")
                gr.Markdown(_TEXTS["explanation"])
                drawing = gr.Image(show_label=False, format="png", interactive=False)
        shown = [gallery, classes, status, chosen, answered]
        files.change(answer, files, shown, api_name=False).success(lambda: None, None, drawing, api_name=False)
        gallery.select(choose, answered, [classes, chosen], api_name=False)
        why.click(explain, chosen, drawing, api_name=False)
        with gr.Row(visible=False):  # for programs: a file's path is no answer to them
            picture, answers, explanation = gr.File(type="filepath"), gr.JSON(), gr.Image(format="png")
            gr.Button().click(as_json, files, answers, api_name="classify")
            gr.Button().click(explain, picture, explanation, api_name="explain")
    page.launch_options = {} if in_constructor else theme
    return page


def serve(page, host="127.0.0.1", port=7860, max_megabytes=20, block=True):
    """Serve the page until it is interrupted.

    Args:
        page: what ``build`` made.
        host: the address to listen on; 127.0.0.1 is this machine alone, 0.0.0.0 everybody who can reach it.
        port: 0 takes any free one.
        max_megabytes: of one uploaded file.
        block: False returns at once; ``page.close()`` ends it.

    Returns:
        The page's address.
    """
    port = check_number("port", port, low=0, high=65535, integer=True)
    limit = check_number("max_megabytes", max_megabytes, low=0.001)
    for client in ("httpx", "httpx2"):  # Gradio asks its own server whether it is up, and logs that
        logging.getLogger(client).setLevel(logging.WARNING)
    page.queue(default_concurrency_limit=2)
    _, url, _ = page.launch(server_name=host, server_port=port or _free_port(host), quiet=True, share=False,
                            max_file_size=int(limit * 2**20), prevent_thread_lock=True, **page.launch_options)
    if block:
        print(f"{url}  (Ctrl-C 结束 / ends it)", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's way to end it, as Ctrl-C
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    return url


def _free_port(host):
    import socket
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _gradio():
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # it would report every start
    try:
        import gradio
    except ImportError as error:
        raise ImportError(f"the page needs Gradio: pip install 'paddle_fasternet[app]' ({error})") from error
    return gradio
