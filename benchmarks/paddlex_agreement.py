"""Does PaddleX open an exported network as it is, and answer the same? Writes work/results/paddlex.json.

    pip install -e ".[cpu,paddlex]"
    python benchmarks/paddlex_agreement.py --data-file cifar-10-python.tar.gz

Then on the command line: paddlex --pipeline work/export/pipeline.yaml --input IMAGE --save_path FOLDER
"""
import importlib.metadata
import json
from pathlib import Path

import numpy as np
from contenders import random_images
from turns import Record, options, prepare

from paddle_fasternet import load_dataset, load_run
from paddle_fasternet.deploy import Predictor, export
from paddle_fasternet.weights import CIFAR10_RUN

IMAGES = 1000


def main():
    parser = options(__doc__, data=True)
    parser.add_argument("--export", default="work/export", help="folder of the exported network; overwritten")
    given = prepare(parser, ["paddlex"])
    run, folder = load_run(CIFAR10_RUN, "final"), given.out / "export" if given.quick else Path(given.export)
    test = random_images(8, 32, 10) if given.quick else load_dataset("cifar10", given.data_file)[1]
    export(run, folder, formats="paddlex", overwrite=True)
    images = test.images[:IMAGES].transpose(0, 2, 3, 1)
    ours = np.array(run.class_names)[Predictor(folder, "paddle", "fp32")(images).argmax(1)]

    import paddlex  # after Paddle: it changes the logging of what is loaded later
    model = paddlex.create_model(model_name="FasterNet-T0", model_dir=str(folder))
    answers = model.predict([image[..., ::-1].copy() for image in images], batch_size=32)  # PaddleX takes BGR
    theirs = np.array([answer["label_names"][0] for answer in answers])
    # what its command line reads: a pipeline of one network
    (folder / "pipeline.yaml").write_text(json.dumps({
        "pipeline_name": "image_classification", "SubModules": {"ImageClassification": {
            "module_name": "image_classification", "model_name": "FasterNet-T0", "model_dir": str(folder.resolve()),
            "batch_size": 4, "topk": 3}}}, indent=1) + "\n", encoding="utf-8")
    record = Record(given.out, "paddlex", images=len(ours), same_top1=int((ours == theirs).sum()), versions={
        name: importlib.metadata.version(name) for name in ("paddlex", "paddlepaddle", "numpy")},
        opencv=sorted(f"{each.metadata['Name']} {each.version}" for each in importlib.metadata.distributions()
                      if (each.metadata["Name"] or "").startswith("opencv")))
    print(record.content)
    record.finish()


if __name__ == "__main__":
    main()
