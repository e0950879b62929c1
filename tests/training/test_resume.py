import contextlib
import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import paddle
import pytest
from networks import TINY

from paddle_fasternet import TrainConfig, cli, fit, load_run, plots
from paddle_fasternet._files import holding, is_sealed, replacing, seal
from paddle_fasternet.training import trainer
from paddle_fasternet.training.checkpoint import CHECKPOINTS, WEIGHTS, Checkpoints
from paddle_fasternet.training.interrupt import stop_request
from paddle_fasternet.training.log import Log
from paddle_fasternet.weights import read_weights

QUICK = dict(epochs=3, batch_size=8, lr=4e-3, augment="flip,shift=2", warmup_epochs=0.5)  # 5 steps an epoch


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.fixture(autouse=True)
def small_and_quick(small_variant, monkeypatch):
    monkeypatch.setattr(plots, "save_figure", lambda *_: None)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """{settings: the result of a run that nothing interrupted}, each run once."""
    done = {}

    def get(config, images):
        if config not in done:
            folder = tmp_path_factory.mktemp("uninterrupted")
            fit(config, images, images, folder, progress=False)
            done[config] = result(folder)
        return done[config]

    return get


@pytest.fixture
def at_step(monkeypatch):
    """Call a function instead of the next fit's step number ``step``, counted from 1."""

    def arrange(step, function):
        real, calls = trainer._make_step, []

        def make_step(*args):
            run, scaler = real(*args)

            def counted(images, labels):
                calls.append(1)
                if len(calls) == step:
                    monkeypatch.setattr(trainer, "_make_step", real)
                    function()
                return run(images, labels)
            return counted, scaler

        monkeypatch.setattr(trainer, "_make_step", make_step)

    return arrange


def kill():
    raise Killed


def result(folder):
    """All that a finished run leaves but the clock's readings."""
    run = json.loads((folder / "history.json").read_text())
    epochs = [{key: value for key, value in epoch.items() if "second" not in key} for epoch in run["epochs"]]
    weights = {name: {key: value.tobytes() for key, value in read_weights(folder / name).items()}
               for name in ("best_model.pdparams", "final_model.pdparams")}
    return weights, run["record"], epochs


@pytest.mark.parametrize("change", [
    {"amp": "off"}, {"ema_decay": 0.9, "augment": "mixup,cutmix", "drop_path_rate": 0.4},
    {"optimizer": "muon", "augment": "altflip", "final_epochs": 1, "early_epochs": 1, "early_size": 16}])
@pytest.mark.parametrize(("checkpoint_seconds", "step"), [(0, 8), (0, 6), (1000, 9)])
def test_killed_and_resumed_ends_in_the_same_weights(tiny_set, tmp_path, at_step, uninterrupted, change,
                                                     checkpoint_seconds, step):
    config = TrainConfig(**{**QUICK, **change})
    at_step(step, kill)
    settings = dict(progress=False, resume=True, checkpoint_seconds=checkpoint_seconds)
    with pytest.raises(Killed):
        fit(config, tiny_set, tiny_set, tmp_path / "killed", **settings)
    _, progress = Checkpoints(tmp_path / "killed").load()
    assert progress["steps"] == (step - 1 if checkpoint_seconds == 0 else 5)
    paddle.nn.Linear(2, 2)  # Paddle counts layers through the process's life: names of parameters are other ones now
    paddle.seed(99)
    history = fit(config, tiny_set, tiny_set, tmp_path / "killed", **settings)
    assert result(tmp_path / "killed") == uninterrupted(config, tiny_set)
    seconds = [epoch["seconds"] for epoch in history.epochs]
    assert seconds == sorted(seconds)
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {
        "config.json", "history.json", "log.jsonl", *WEIGHTS}


def test_killed_at_every_rename(tiny_set, tmp_path, monkeypatch, uninterrupted):
    config = TrainConfig(**{**QUICK, "epochs": 2, "batch_size": 40})
    real, count, moment = os.replace, [], None

    def replace(source, target):
        count.append(Path(target).name)
        if len(count) == moment:
            raise Killed
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False)
    renames = count.copy()
    assert set(renames) >= {"config.json", "history.json", *WEIGHTS, *CHECKPOINTS}
    for moment in range(1, len(renames) + 1):
        folder, count[:] = tmp_path / str(moment), []
        with pytest.raises(Killed):
            fit(config, tiny_set, tiny_set, folder, progress=False, resume=True)
        fit(config, tiny_set, tiny_set, folder, progress=False, resume=True)
        assert result(folder) == uninterrupted(config, tiny_set), renames[moment - 1]


@pytest.mark.parametrize("moment", [1, 2])
def test_killed_while_checkpoints_are_removed(tiny_set, tmp_path, monkeypatch, uninterrupted, moment):
    config, count, real = TrainConfig(**QUICK), [], Path.unlink

    def unlink(self, missing_ok=False):
        if self.name in CHECKPOINTS and self.exists():
            count.append(self.name)
            if len(count) == moment:
                raise Killed
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(Killed):
        fit(config, tiny_set, tiny_set, tmp_path, progress=False)
    assert Checkpoints(tmp_path).load()[1]["steps"] == 15
    fit(config, tiny_set, tiny_set, tmp_path, progress=False, resume=True)
    assert result(tmp_path) == uninterrupted(config, tiny_set)
    assert not {path.name for path in tmp_path.iterdir()} & set(CHECKPOINTS)


def test_killed_in_the_evaluation(tiny_set, tmp_path, monkeypatch, uninterrupted):
    config = TrainConfig(**QUICK)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trainer, "evaluate", lambda *_, **__: kill())
        fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, checkpoint_seconds=0)
    assert Checkpoints(tmp_path / "run").load()[1]["steps"] == 5
    fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, resume=True)
    assert result(tmp_path / "run") == uninterrupted(config, tiny_set)


SCRIPT = """
import sys
import numpy as np
from paddle_fasternet import TrainConfig, fit
from paddle_fasternet.data import ImageSet
from paddle_fasternet.model import VARIANTS
VARIANTS["fasternet_t0"] = {small}
loaded = np.load(sys.argv[1])
images = ImageSet(loaded["images"], loaded["labels"], ("red", "green", "blue", "yellow"), "colours", "made")
fit(TrainConfig(**{config}), images, images, sys.argv[2], progress=False, resume=True, checkpoint_seconds=0)
"""


def test_a_process_that_is_really_killed(tiny_set, tmp_path, uninterrupted):
    config = TrainConfig(**QUICK)
    np.savez(tmp_path / "set.npz", images=tiny_set.images, labels=tiny_set.labels)
    (tmp_path / "script.py").write_text(SCRIPT.format(small=TINY, config=QUICK))
    log = tmp_path / "run" / "log.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen([sys.executable, "script.py", "set.npz", "run"], cwd=tmp_path, env=environment)
    try:
        while not log.exists() or log.read_text().count("\n") < 7:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGSTOP)  # while it lives, nobody else gets the folder; the hold ends with it
        with pytest.raises(BlockingIOError, match="out_dir=.*run' is in use: another training writes there"):
            fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, resume=True)
    finally:
        process.kill()
        process.wait()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[0] == {"event": "new", "step": 0} and {"event", "step", "loss", "acc", "lr"} == set(lines[1])
    assert Checkpoints(tmp_path / "run").load()[1]["steps"] >= 5
    (tmp_path / "run" / ".final_model.pdparams.01234567.part").write_bytes(b"half")  # as a kill while writing leaves it
    fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, resume=True)
    fit(config, tiny_set, tiny_set, tmp_path / "whole", progress=False)
    assert result(tmp_path / "run") == uninterrupted(config, tiny_set)
    assert not list((tmp_path / "run").glob(".*"))


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over(tiny_set, tmp_path, at_step, uninterrupted):
    config, run = TrainConfig(**QUICK), tmp_path / "run"
    at_step(8, kill)
    with pytest.raises(Killed):
        fit(config, tiny_set, tiny_set, run, progress=False, checkpoint_seconds=0)
    newest = max((run / name for name in CHECKPOINTS), key=lambda path: path.stat().st_mtime_ns)
    damage(newest)
    with pytest.warns(UserWarning, match=f"{newest.name}' is damaged: .*; going on from the checkpoint before it"):
        assert Checkpoints(run).load()[1]["steps"] == 6
    with pytest.warns(UserWarning, match="is damaged"):
        fit(config, tiny_set, tiny_set, run, progress=False, resume=True)
    assert result(run) == uninterrupted(config, tiny_set)


def test_checkpoints_that_cannot_be_used(tiny_set, tmp_path, at_step):
    config = TrainConfig(**QUICK)
    at_step(3, kill)
    with pytest.raises(Killed):
        fit(config, tiny_set, tiny_set, tmp_path, progress=False, checkpoint_seconds=0)

    def resumed(match, error=ValueError, **change):
        with pytest.raises(error, match=match):
            fit(TrainConfig(**{**QUICK, **change}), tiny_set, tiny_set, tmp_path, progress=False, resume=True)

    resumed("holds a run with other settings or data, .*: lr is 0.004 there, 0.1 here; seed is 0 there, 7 here",
            lr=0.1, seed=7)
    with pytest.raises(ValueError, match="mean is .* there, .* here; .*; val_images is 40 there, 20 here"):
        fit(config, tiny_set[:39], tiny_set[:20], tmp_path, progress=False, resume=True)
    with pytest.raises(FileExistsError, match="holds a run already; go on with it with resume=True"):
        fit(config, tiny_set, tiny_set, tmp_path, progress=False)
    arrays, progress = Checkpoints(tmp_path).load()
    for kept, values, message in [
            ({name: array for name, array in arrays.items() if "average" in name}, progress, "of another network"),
            ({**arrays, "model/head.bias": np.zeros(5, np.float32)}, progress, "of another network"),
            (arrays, {**progress, "steps": 4}, "its 4 steps do not fit its history"),
            (arrays, {**progress, "history": []}, "is not of this run"),
            (arrays, {"steps": 2}, "is not what a training writes")]:
        (tmp_path / CHECKPOINTS[1]).unlink(missing_ok=True)
        Checkpoints(tmp_path).save(kept, values)  # into the first
        resumed(message)
    for name in CHECKPOINTS:
        (tmp_path / name).write_bytes(b"junk" * 100)
    resumed("resume_a.*does not end in its checksum.*resume_b.*start anew with overwrite=True")
    fit(config, tiny_set, tiny_set, tmp_path, overwrite=True, progress=False)
    for name in CHECKPOINTS + WEIGHTS[:1]:
        (tmp_path / name).unlink(missing_ok=True)
    resumed("holds a run without a checkpoint to go on from")


def test_resume_where_nothing_is_and_where_all_is_done(tiny_set, tmp_path, capsys):
    config = TrainConfig(**{**QUICK, "epochs": 1})
    first = fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, resume=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    again = fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, resume=True)
    assert again == first and before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    assert not set(CHECKPOINTS) & {path.name for path in before}
    # a run that died before its first checkpoint is begun again
    (tmp_path / "early").mkdir()
    (tmp_path / "run" / "config.json").rename(tmp_path / "early" / "config.json")
    assert fit(config, tiny_set, tiny_set, tmp_path / "early", progress=False, resume=True).record == first.record


def test_a_run_of_a_version_that_lacked_a_setting_is_resumed_at_its_default(tiny_set, tmp_path):
    config = TrainConfig(**{**QUICK, "epochs": 1})
    first = fit(config, tiny_set, tiny_set, tmp_path, progress=False)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    del content["config"]["embed_overlap"]
    content["versions"] = content.pop("machine")  # what stood there before
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    assert fit(config, tiny_set, tiny_set, tmp_path, progress=False, resume=True) == first
    assert load_run(tmp_path).machine is None
    with pytest.raises(ValueError, match="embed_overlap is 0 there, 1 here"):
        fit(TrainConfig(**{**QUICK, "epochs": 1, "embed_overlap": 1}), tiny_set, tiny_set, tmp_path, progress=False,
            resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_step_with_a_checkpoint(tiny_set, tmp_path, at_step, number, capsys, uninterrupted):
    config = TrainConfig(**QUICK)
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    at_step(7, lambda: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt, match=r"stopped after step 7 of 15; go on with resume=True \(--resume\)"):
        fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False)
    assert "Stopping after this step, with a checkpoint. Ctrl-C once more stops at once." in capsys.readouterr().err
    assert handlers == [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, resume=True)
    assert result(tmp_path / "run") == uninterrupted(config, tiny_set)


def test_a_signal_in_the_last_evaluation_lets_the_run_end(tiny_set, tmp_path, monkeypatch):
    real = trainer.evaluate

    def evaluate(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **kwargs)

    monkeypatch.setattr(trainer, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 5 of 10"):
        fit(TrainConfig(**{**QUICK, "epochs": 2}), tiny_set, tiny_set, tmp_path, progress=False)
    assert len(load_run(tmp_path).history.epochs) == 1
    fit(TrainConfig(**{**QUICK, "epochs": 2}), tiny_set, tiny_set, tmp_path, progress=False, resume=True)
    assert len(load_run(tmp_path).history.epochs) == 2


def test_a_second_ctrl_c_stops_at_once(tiny_set, tmp_path, at_step):
    done = []

    def twice():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # launch sends several: no hurry
        done.append("terminated twice")
        os.kill(os.getpid(), signal.SIGINT)
        done.append("never")

    at_step(3, twice)
    with pytest.raises(KeyboardInterrupt, match="stopped at once"):
        fit(TrainConfig(**QUICK), tiny_set, tiny_set, tmp_path, progress=False, checkpoint_seconds=0)
    assert done == ["terminated twice"] and Checkpoints(tmp_path).load()[1]["steps"] == 2


def test_outside_the_main_thread_signals_are_left_alone():
    seen = []

    def elsewhere():
        with stop_request() as stop:
            seen.extend([stop.made, signal.getsignal(signal.SIGINT)])

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False, before]


def test_the_command_line_resumes(tmp_path, monkeypatch, capsys, at_step):
    monkeypatch.chdir(tmp_path)
    command = ["train", "--data", "digits", "--epochs", "1", "--patch-size", "4", "--batch-size", "128", "--augment",
               "shift", "--resume"]
    assert cli.main([*command, "--out", "whole"]) == 0
    at_step(4, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert cli.main([*command, "--out", "run"]) == 130
    assert capsys.readouterr().err.endswith(
        "paddle-fasternet train: stopped after step 4 of 11; go on with resume=True (--resume)\n")
    assert cli.main([*command, "--out", "run"]) == 0
    assert result(tmp_path / "run") == result(tmp_path / "whole")
    assert cli.main([*command, "--overwrite", "--out", "run"]) == 2
    assert "--overwrite and --resume contradict each other" in capsys.readouterr().err


@contextlib.contextmanager
def largest_file(size):
    """Writing beyond ``size`` bytes fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_what_was_there(tiny_set, tmp_path, at_step, uninterrupted):
    config = TrainConfig(**QUICK)
    at_step(8, kill)
    with pytest.raises(Killed):
        fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != "log.jsonl"}
    with largest_file(15_000), pytest.raises(OSError, match="run/.*cannot be written: File too large"):
        fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, resume=True)
    after = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != "log.jsonl"}
    assert before == after
    fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, resume=True)
    assert result(tmp_path / "run") == uninterrupted(config, tiny_set)
    log = Log(tmp_path)
    with largest_file(100), pytest.raises(OSError, match="log.jsonl cannot be written: File too large"):
        for step in range(10):
            log.write("train", step, loss=0.5)
    log.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_refused_writes_name_the_file(tmp_path, monkeypatch, number):
    (tmp_path / "a").write_text("good")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=f"a cannot be written: {os.strerror(number)}"), replacing(tmp_path / "a") as file:
        file.write(b"new")
    assert (tmp_path / "a").read_text() == "good" and len(list(tmp_path.iterdir())) == 1


def test_a_read_only_folder(tiny_set):
    with pytest.raises(OSError, match="out_dir='/proc/run' cannot be written: .*choose another folder"):
        fit(TrainConfig(**QUICK), tiny_set, tiny_set, "/proc/run", progress=False)


def test_a_folder_is_held_once(tmp_path):
    with holding("out", tmp_path):
        with pytest.raises(BlockingIOError, match=re.escape(f"out='{tmp_path}' is in use")), holding("out", tmp_path):
            pass
        with holding("out", tmp_path.parent):
            pass
    with holding("out", tmp_path):
        pass


def test_checksums(tmp_path):
    for content in (b"", b"x", bytes(3 << 20)):
        with open(tmp_path / "a", "w+b") as file:
            file.write(content)
            seal(file)
        assert is_sealed(tmp_path / "a") and (tmp_path / "a").read_bytes().startswith(content)
        damage(tmp_path / "a")
        if content:
            with pytest.raises(ValueError, match="a' is damaged: its SHA-256"):
                is_sealed(tmp_path / "a")
        (tmp_path / "b").write_bytes(content)
        assert not is_sealed(tmp_path / "b")


def test_weights_have_checksums_that_paddle_passes_over(tiny_set, tmp_path):
    fit(TrainConfig(**{**QUICK, "epochs": 1}), tiny_set, tiny_set, tmp_path, progress=False)
    run = load_run(tmp_path)
    for name, value in paddle.load(str(tmp_path / "best_model.pdparams")).items():
        assert (value == run.model.state_dict()[name]).all(), name
    assert all(is_sealed(tmp_path / name) for name in WEIGHTS)
    assert any("moment1" in name for name in paddle.load(str(tmp_path / "final_model.pdopt")))
    damage(tmp_path / "best_model.pdparams")
    with pytest.raises(ValueError, match="best_model.pdparams' is damaged: its SHA-256"):
        load_run(tmp_path)
    load_run(tmp_path, "final")


def test_nothing_is_left_open(tiny_set, tmp_path, at_step):
    def alive():
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    config = TrainConfig(**QUICK)
    fit(config, tiny_set, tiny_set, tmp_path / "first", progress=False)
    before = alive()
    at_step(8, kill)
    try:
        fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False)
    except Killed:  # and while the traceback still holds on to the loop
        assert alive() == before
    fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, resume=True)
    assert alive() == before


def test_visualdl(tiny_set, tmp_path, monkeypatch):
    config = TrainConfig(**{**QUICK, "epochs": 1})
    monkeypatch.setitem(sys.modules, "visualdl", None)
    with pytest.raises(ImportError, match="visualdl=True needs VisualDL: pip install visualdl"):
        fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, visualdl=True)
    assert not (tmp_path / "run").exists()

    class LogWriter:
        scalars = []

        def __init__(self, logdir):
            Path(logdir).mkdir()
            (Path(logdir) / "vdlrecords.1.log").write_text("")

        def add_scalar(self, tag, step, value):
            self.scalars.append((tag, step, value))

        def close(self):
            self.scalars.append("closed")

    monkeypatch.setitem(sys.modules, "visualdl", types.SimpleNamespace(LogWriter=LogWriter))
    history = fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False, visualdl=True)
    assert ("epoch/val_acc", 5, history.epochs[0]["val_acc"]) in LogWriter.scalars
    assert "train/loss" in {entry[0] for entry in LogWriter.scalars} and LogWriter.scalars[-1] == "closed"
    fit(config, tiny_set, tiny_set, tmp_path / "run", overwrite=True, progress=False)
    assert not list((tmp_path / "run").glob("visualdl/*"))  # no curve of the old run stays for the new one's
