"""``paddle-fasternet detect train | evaluate | predict | export``: detection with PaddleDetection's parts."""
import argparse
import importlib
import json
from pathlib import Path

from .. import plots
from .._files import make_folder, write_json
from .options import add_device

# Options of ``detect train`` that are settings of DetectConfig: type and help. The module that has the settings needs
# PaddleDetection, so their defaults stand in its documentation and here as text.
SETTINGS = {
    "backbone": (str, "fasternet_t0", "fasternet_t0 ... fasternet_l, or to compare with: ResNet18, MobileNetV3, "
                                      "CSPResNet"),
    "pretrained": (str, "auto", "cifar10, imagenet, none or a weight file; auto: cifar10 for fasternet_t0, else none"),
    "image_size": (int, "320", "the input has about the pixels of a square of this side, in the pictures' shape"),
    "batch_size": (int, "8", "pictures in a step"),
    "epochs": (int, "300", "most passes over the pictures"),
    "minutes": (float, "60", "most minutes; 0: no limit"),
    "lr": (float, "0.001", "learning rate of AdamW"),
    "flip": (str, "horizontal", "mirror images: none, horizontal; both for pictures without an up and a down"),
    "evaluations": (int, "10", "how often the validation pictures are tried"),
    "seed": (int, "0", "of weights, order and augmentation"),
}


def add_commands(add):
    """Describe the commands of this module to the parser."""
    detect = add("detect", None, "Train detectors on folders of pictures with boxes, evaluate, use and export them; "
                                 "needs PaddleDetection.")
    parts = detect.add_subparsers(dest="part", required=True, metavar="COMMAND")

    def part(name, command, text):
        child = parts.add_parser(name, help=text, description=text, allow_abbrev=False)
        add_device(child, argparse.SUPPRESS)  # it stands before the part's name, too
        child.set_defaults(command=command)
        return child

    train = part("train", _train, "Train PP-YOLOE on a folder in Pascal VOC or COCO layout.")
    train.add_argument("--data", required=True, metavar="FOLDER", help="pictures with boxes")
    train.add_argument("--out", default="work/detect", help="folder of the training (default: %(default)s)")
    for name, (kind, default, text) in SETTINGS.items():
        train.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help=f"{text} (default: {default})")
    train.add_argument("--resume", action="store_true", help="go on with the training in --out, or begin it")
    train.add_argument("--overwrite", action="store_true", help="throw away the training in --out")

    evaluate = part("evaluate", _evaluate, "Average precision of a detector on the validation pictures of a folder.")
    evaluate.add_argument("--data", required=True, metavar="FOLDER", help="pictures with boxes")
    _add_run(evaluate)
    evaluate.add_argument("--json", default=None, help="also write the figures to this file")

    predict = part("predict", _predict, "Find objects in pictures: boxes on the screen, in a JSON file and drawn.")
    predict.add_argument("pictures", nargs="+", metavar="PICTURE", help="files")
    _add_run(predict)
    predict.add_argument("--threshold", type=float, default=0.4, help="lowest score (default: %(default)s)")
    predict.add_argument("--out", default="work/boxes", help="folder of the drawn pictures and boxes.json (default: "
                                                             "%(default)s)")

    export = part("export", _export, "Write a trained detector for Paddle Inference.")
    _add_run(export)
    export.add_argument("--out", default="work/detect_export", help="folder to make (default: %(default)s)")


def _add_run(parser):
    parser.add_argument("--run", default="work/detect", help="folder of a training or an export (default: %(default)s)")


def _detection():
    return importlib.import_module("paddle_fasternet.detection")


def _train(options):
    detection = _detection()
    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    if "pretrained" in given:
        given["pretrained"] = {"none": False, "imagenet": True}.get(given["pretrained"], given["pretrained"])
    if given.get("minutes") == 0:
        given["minutes"] = None
    config = detection.DetectConfig(**given)
    train, val = detection.load_boxes(options.data)
    for note in (*train.notes, *val.notes):
        print(note)
    print(f"train: {train}\nval:   {val}", flush=True)
    detector, history = detection.train_detector(config, train, val, options.out, resume=options.resume,
                                                 overwrite=options.overwrite, report=_say)
    plots.save_figure(Path(options.out).expanduser() / "curves.png", detection.plot_detection_history, history)
    print(detection.Score(**{name: history["evaluations"][-1][name] for name in ("ap", "ap50", "ap75", "classes")}))
    print(f"written: {options.out}; paddle-fasternet detect predict PICTURE --run {options.out}")


def _say(text):
    print(text, flush=True)


def _evaluate(options):
    detection = _detection()
    detector = detection.load_detector(options.run)
    _, val = detection.load_boxes(options.data, class_names=detector.class_names)
    found = detector.evaluate(val)
    print(found)
    if options.json:
        write_json(options.json, {"command": f"paddle-fasternet detect evaluate --data {options.data} --run "
                                             f"{options.run}", "pictures": len(val), **vars(found)})


def _predict(options):
    detection = _detection()
    detector = detection.load_detector(options.run, options.threshold)
    folder, found = make_folder("out", options.out), {}
    for path in options.pictures:
        boxes = detector(path)
        print(f"{path}: {', '.join(map(str, boxes)) or 'nothing found'}")
        found[str(path)] = [vars(box) for box in boxes]
        number = sum(Path(other).stem == Path(path).stem for other in found) - 1
        detection.draw_boxes(path, boxes, folder / f"{Path(path).stem}{f'_{number}' if number else ''}.png")
    write_json(folder / "boxes.json", json.loads(json.dumps(found)))
    print(f"written: {folder}")


def _export(options):
    print(f"written: {_detection().export_detector(options.run, options.out)}")
