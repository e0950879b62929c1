import io
import json
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddle_fasternet import FasterNet, Predictor, app, load_dataset, load_run
from paddle_fasternet.cli import main
from paddle_fasternet.cli.page import _own_examples
from paddle_fasternet.data import describe_files
from paddle_fasternet.weights import CIFAR10_RUN

NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def service():
    network = FasterNet(embed_dim=8, depths=(1, 1), merge_sizes=(2,), patch_size=2, feature_dim=16, num_classes=3)
    network.eval()
    predictor = Predictor(network, "eager", "fp32", image_size=16, class_names=NAMES)
    return app.Service(predictor, network, top=2, samples=60)


@pytest.fixture
def pictures(tmp_path):
    paths = []
    for i in range(4):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8)).save(paths[-1])
    return paths


def wrong_files(folder):
    """Twenty files that are no pictures, each in its own way."""
    whole = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(whole, "PNG")
    whole = whole.getvalue()
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(jpeg, "JPEG")
    contents = [b"", b"text", b"\0" * 1000, b"GIF89a", b"%PDF-1.4", b"PK\3\4", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP",
                whole[:8], whole[:20], whole[:-30], whole[:40], jpeg.getvalue()[:30], jpeg.getvalue()[:2], b"<svg/>",
                b"<html>", b"#!/bin/sh", bytes(range(256)), b"\xff\xd8\xff\xe0" + b"x" * 50]
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"wrong{number}.png")
        paths[-1].write_bytes(content)
    return [str(path) for path in paths]


def test_answers_are_those_of_the_predictor(service, pictures):
    answers, problems = service.classify(pictures)
    assert not problems and [path for path, _ in answers] == pictures
    for (_, classes), row in zip(answers, service.predictor(pictures)):
        best = np.argsort(-row)[:2]
        assert list(classes) == [NAMES[i] for i in best]
        assert list(classes.values()) == pytest.approx(row[best].tolist(), rel=1e-5)


def test_wrong_files_get_a_sentence_each_and_the_others_are_answered(service, pictures, tmp_path):
    wrong = wrong_files(tmp_path)
    answers, problems = service.classify([wrong[0], pictures[0], *wrong[1:], pictures[1], str(tmp_path / "none.png")])
    assert [path for path, _ in answers] == pictures[:2]
    assert len(problems) == 21 and all("is not a picture that can be read" in problem for problem in problems)
    assert problems[3].startswith("wrong3.png")


def test_too_many_pictures_are_named(service, pictures):
    answers, problems = service.classify(pictures * 17)
    assert len(answers) == 64 and "only the first 64 of 68" in problems[0]


def test_an_explanation_is_drawn_with_and_without_the_network(service, pictures):
    wide = service.explain(pictures[0])
    narrow = app.Service(service.predictor, None, samples=60).explain(pictures[0])
    assert wide.width > narrow.width > 200  # Grad-CAM is the third panel
    assert np.asarray(wide).std() > 10


def test_example_pictures_take_turns_between_folders(tmp_path, pictures):
    for name in ("a", "b", ".hidden"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "set" / name / f"{i}.jpg").write_bytes(b"")
    found = app.example_pictures(tmp_path / "set", most=4)
    assert [path.rsplit("/", 2)[1] for path in found] == ["a", "b", "a", "b"]
    with pytest.raises(FileNotFoundError, match="examples='.*nowhere': there is no such folder"):
        app.example_pictures(tmp_path / "nowhere")


CLIENT = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from gradio_client import Client, handle_file
url, pictures, wrong, large = json.loads(sys.argv[1])
client = Client(url, verbose=False)
ask = lambda paths: client.predict([handle_file(path) for path in paths], api_name="/classify")
with ThreadPoolExecutor(30) as pool:
    found = {"many": list(pool.map(ask, [[pictures[i % len(pictures)]] for i in range(30)]))}
found["mixed"] = ask([*wrong, pictures[0]])
found["explained"] = client.predict(handle_file(pictures[0]), api_name="/explain")
try:
    found["large"] = ask([large])
except Exception as error:
    found["large"] = str(error)
found["after"] = ask(pictures[:1])
print(json.dumps(found))
"""


def test_thirty_requests_at_once_are_all_answered(service, pictures, tmp_path):
    """The page and its client in processes of their own: what Gradio leaves open at its end is not ours."""
    large = tmp_path / "large.png"
    large.write_bytes(b"0" * 600_000)
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[1])}
    # a shell starts what runs in its background with Ctrl-C ignored
    start = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
             "from paddle_fasternet.cli import main; sys.exit(main(sys.argv[1:]))")
    command = [sys.executable, "-W", "ignore", "-c", start, "app", "--run", str(CIFAR10_RUN), "--which", "final",
               "--engine", "eager", "--port", "0", "--max-megabytes", "0.5", "--samples", "50"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            url = next(line.split()[0] for line in server.stdout if line.startswith("http"))
            arguments = json.dumps([url, pictures, wrong_files(tmp_path), str(large)])
            client = subprocess.run([sys.executable, "-c", CLIENT, arguments], capture_output=True, text=True)
            assert client.returncode == 0, client.stderr
            found = json.loads(client.stdout.splitlines()[-1])
        finally:
            server.send_signal(signal.SIGINT)
            try:
                status = server.wait(30)
            except subprocess.TimeoutExpired:  # leaving the block would wait without end
                server.kill()
                raise
        assert status == 130
    assert url.startswith("http://127.0.0.1:")
    run = load_run(CIFAR10_RUN, "final")
    expected = Predictor(run, "eager", "fp32")(pictures)
    for number, answer in enumerate(found["many"]):
        own = expected[number % 4]
        best = np.argsort(-own)[:5]
        assert answer["problems"] == [] and answer["answers"][0]["file"] == f"{number % 4}.png"
        assert list(answer["answers"][0]["classes"]) == [run.class_names[i] for i in best]
        assert list(answer["answers"][0]["classes"].values()) == pytest.approx(own[best].tolist(), rel=1e-4)
    assert len(found["mixed"]["problems"]) == 20 and len(found["mixed"]["answers"]) == 1
    with Image.open(found["explained"]) as image:
        assert image.width > 200
    assert "size" in found["large"].lower() and found["after"]["problems"] == []


def test_without_gradio_the_error_says_what_to_install(monkeypatch, service):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r"pip install 'paddle_fasternet\[app\]'"):
        app.build(service)


def test_a_runs_own_pictures_are_the_examples(tmp_path, pictures):
    for part in ("train", "val"):
        for name in ("red", "blue"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            shutil.copy(pictures[0], tmp_path / "set" / part / name / "a.png")
    run = types.SimpleNamespace(data=describe_files(*load_dataset(tmp_path / "set")))
    expected = [str(tmp_path / "set" / "val" / name / "a.png") for name in ("blue", "red")]
    assert _own_examples(run) == expected
    shutil.rmtree(tmp_path / "set")
    assert list(_own_examples(run)) == list(_own_examples(None)) == []  # moved away; an exported folder


@pytest.mark.parametrize("arguments, message", [
    (["--port", "70000"], "port=70000 must be"), (["--max-megabytes", "0"], "--max-megabytes=0"),
    (["--run", "nowhere"], "nowhere"), (["--run", "cifar", "--top", "0"], "top=0|cifar")])
def test_wrong_options_are_named(arguments, message, capsys):
    assert main(["app", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("paddle-fasternet app: ") and any(part in error for part in message.split("|"))


def test_the_library_does_not_import_gradio():
    code = "import sys, paddle_fasternet.app, paddle_fasternet.cli; assert 'gradio' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
