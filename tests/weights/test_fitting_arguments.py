"""A file that does not fit: which arguments of the builder it asks for."""
import paddle
import pytest
from networks import TINY

from paddle_fasternet import FasterNet, create_model, load_weights
from paddle_fasternet.model import VARIANTS
from paddle_fasternet.weights.arguments import read_arguments, strides_of


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("of_file", "of_model", "said"), [
    ({"patch_size": 4}, {"patch_size": 2}, "patch_size=4"), ({"num_classes": 7}, {}, "num_classes=7"),
    ({"merge_sizes": (1, 2, 2)}, {}, "merge_sizes=(1, 2, 2)"), ({"embed_overlap": 1}, {}, "embed_overlap=1"),
    ({}, {"embed_overlap": 1}, "embed_overlap=0"), ({"mixer": "dwconv"}, {}, "mixer='dwconv'"),
    ({"patch_size": 2, "embed_overlap": 1}, {"patch_size": 4, "embed_overlap": 0}, "patch_size"),
    ({}, {"mixer": "conv"}, "mixer='pconv'"), ({"mixer": "identity"}, {}, "mixer='identity'"),
    ({"mixer": "conv"}, {"mixer": "dwconv"}, "mixer='conv'"), ({"n_div": 2}, {}, "n_div=2"),
    ({"kernel_size": 5}, {}, "kernel_size=5"), ({"mlp_ratio": 3.0}, {}, "mlp_ratio=3"),
    ({"embed_dim": 16}, {}, "embed_dim=16, depths=(1, 1, 1, 1)"),
    ({"depths": (1, 2, 1, 1)}, {}, "embed_dim=8, depths=(1, 2, 1, 1)"),
    ({"depths": (1, 1), "merge_sizes": (2,)}, {}, "depths=(1, 1)"), ({"feature_dim": 16}, {}, "feature_dim=16"),
    ({"in_channels": 1}, {}, "in_channels=1"), ({"layer_scale_init_value": 0.1}, {}, "layer_scale_init_value above 0"),
    ({"patch_size": 1, "n_div": 1}, {}, "patch_size=1, n_div=1")])
def test_the_message_names_the_arguments_that_fit(of_file, of_model, said, tmp_path):
    file = FasterNet(**{**TINY, "num_classes": 5, **of_file})
    paddle.save(file.state_dict(), str(tmp_path / "a.pdparams"))
    with pytest.raises(ValueError) as error:
        load_weights(FasterNet(**{**TINY, "num_classes": 5, **of_model}), tmp_path / "a.pdparams")
    line = str(error.value).splitlines()[-1]
    assert said in line and line.index("with ") < line.index("strict=False"), line
    argument = said.split("=")[0].split()[0]
    if of_file and argument in of_file:
        built = FasterNet(**{**TINY, "num_classes": 5, **of_file})
        assert load_weights(built, tmp_path / "a.pdparams").complaint() == ""


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_recognised(name):
    model = create_model(name, num_classes=3, mixer="gconv")
    found = read_arguments(shapes(model), strides_of(model))
    for argument in ("embed_dim", "depths"):
        assert found[argument] == VARIANTS[name][argument]
    assert (found["mixer"], found["mlp_ratio"], found["feature_dim"], found["num_classes"]) == ("gconv", 2, 1280, 3)
    assert (found["patch_size"], found["merge_sizes"], found["embed_overlap"]) == (4, (2, 2, 2), 0)


def test_a_variant_is_named_and_a_pretrained_file_keeps_its_head(tmp_path):
    paddle.save(create_model("fasternet_t1", patch_size=2, num_classes=5).state_dict(), str(tmp_path / "a.pdparams"))
    with pytest.raises(ValueError) as error:
        create_model("fasternet_t0", pretrained=tmp_path / "a.pdparams", num_classes=4)
    assert "Build the model with fasternet_t1, patch_size=2: " in str(error.value)
    assert "num_classes" not in str(error.value) and "strict=False" in str(error.value)
    with pytest.raises(ValueError, match="Build the model with fasternet_t1, patch_size=2, num_classes=5: "):
        load_weights(create_model("fasternet_t0", num_classes=4), tmp_path / "a.pdparams")


def test_nothing_is_said_of_what_the_shapes_do_not_tell():
    assert read_arguments({}) == {} and read_arguments({"patch_embed.proj.weight": (8, 3, 4, 4)}) == {}
    own = FasterNet(**{**TINY, "mixer": lambda dim: paddle.nn.Conv2D(dim, dim, (1, 3), padding=(0, 1))})
    assert "mixer" not in read_arguments(shapes(own), strides_of(own))
