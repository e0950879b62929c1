"""``paddle-fasternet export | convert``."""
from ..deploy import FORMATS, export
from ..deploy.files import ExportFiles
from ..training import load_run
from ..weights import TARGETS, convert
from .options import add_data, add_run, load_data


def add_commands(add):
    """Describe the commands of this module to the parser."""
    exporting = add("export", _export, "Write a trained network for use elsewhere: Paddle Inference, ONNX, PaddleX.")
    add_run(exporting)
    exporting.add_argument("--out", default="work/export", help="folder to make (default: %(default)s)")
    exporting.add_argument("--formats", default=",".join(FORMATS), metavar="NAMES",
                           help="joined by commas (default: %(default)s)")
    exporting.add_argument("--int8", action="store_true", help="also quantise to int8, with 300 training images")
    exporting.add_argument("--check", action="store_true", help="try every precision on the test images and put their "
                                                                "accuracy on record")
    exporting.add_argument("--overwrite", action="store_true", help="put it in the place of the export that is there")
    add_data(exporting, default=None)

    conversion = add("convert", _convert, "Rewrite a weight file under other names or in another format, bit for bit; "
                                          "nothing in the file is executed.")
    conversion.add_argument("source", help="a file of this library, PaddleClas, the authors, timm or the 2023 notebook")
    conversion.add_argument("target", help="ends in .pdparams, .safetensors, .pth or .pt")
    conversion.add_argument("--to", default=None, help=f"whose names: {', '.join(TARGETS)}; default: official for .pth "
                                                       "and .pt, paddle otherwise")


def _export(options):
    run = load_run(options.run, options.which)
    train = test = None
    if options.int8 or options.check:
        train, test = load_data(options, run, run.class_names)
    folder = export(run, options.out, formats=[name.strip() for name in options.formats.split(",")],
                    calibration=train if options.int8 else None, validation=test if options.check else None,
                    overwrite=options.overwrite)
    for path in sorted(folder.iterdir()):
        print(f"{path}: {path.stat().st_size:,} bytes")
    for precision, found in ExportFiles(folder).accuracy.items():
        print(f"{precision}: {found['top1']:.2%} on {found['images']:,} images, {found['same_as_fp32']:.2%} answered "
              f"as by fp32 ({found['engine']})")


def _convert(options):
    origin, count = convert(options.source, options.target, options.to)
    print(f"{options.target}: {count} weights out of {options.source} ({origin} names)")
