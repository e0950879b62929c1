
import pytest
from deploying import MEAN, STD, pictures, small
from paddle import nn

from paddle_fasternet.data import ImageSet
from paddle_fasternet.deploy import (
    Predictor,
    export,
)


@pytest.fixture(autouse=True)
def own_memory(tmp_path, monkeypatch):
    """Measured choices go to the test's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One export of everything, int8 included, and the network it was made of."""
    model, out = small(act_layer=nn.GELU), tmp_path_factory.mktemp("export") / "net"
    images = pictures(40).transpose(0, 3, 1, 2)
    labels = Predictor(model, "eager", image_size=16, mean=MEAN, std=STD)(images.transpose(0, 2, 3, 1)).argmax(1)
    known = ImageSet(images, labels, tuple("abcde"), "made", "here")
    export(model, out, 16, class_names=list("abcde"), mean=MEAN, std=STD, calibration=known, validation=known,
           progress=False)
    return out, model, known
