"""What holds for any input, searched for exceptions by hypothesis. Layers, losses, augmentation: in their own tests."""
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_fasternet import History, TrainConfig, plots
from paddle_fasternet._check import check_number
from paddle_fasternet.data import Augment, ImageSet, Loader, parse_augment
from paddle_fasternet.data.augment import AUGMENTATIONS, PRESETS
from paddle_fasternet.deploy.predictor import softmax

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)
quietly = settings(deadline=None, max_examples=60)


def numbered(count):
    """Images that carry their number as colour and as label."""
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(2, 2).repeat(2, 3)
    return ImageSet(pixels, np.arange(count), tuple(range(count)))


@quietly
@given(st.integers(1, 20), st.integers(1, 7), st.booleans(), st.booleans(), st.integers(0, 2**63 - 1),
       st.integers(0, 50), st.integers(0, 3), st.data())
def test_an_epoch_is_every_image_once_and_goes_on_from_anywhere(count, size, shuffle, drop_last, seed, epoch, workers,
                                                                data):
    images = numbered(count)
    augment = Augment("none", None, (0.0,), (1.0,))
    drop_last = drop_last and size <= count
    loader = Loader(images, size, augment, shuffle, drop_last, seed, workers)
    batches = [(x.numpy(), labels.numpy()) for x, labels in loader.epoch(epoch)]
    seen = np.concatenate([labels for _, labels in batches])
    assert len(batches) == len(loader) and len(set(seen.tolist())) == len(seen)
    assert len(seen) == (count // size * size if drop_last else count)
    assert shuffle or seen.tolist() == list(range(len(seen)))
    for x, labels in batches:
        assert (x == labels[:, None, None, None]).all()
    start = data.draw(st.integers(0, len(batches)))
    rest = [labels.numpy().tolist() for _, labels in Loader(images, size, augment, shuffle, drop_last, seed).epoch(
        epoch, start)]
    assert rest == [labels.tolist() for _, labels in batches[start:]]
    assert images.images.ravel()[::4].tolist() == list(range(count))


names = st.sampled_from([*AUGMENTATIONS, *PRESETS, "flp", ""])
items = st.builds(lambda name, strength: name + strength, names,
                  st.sampled_from(["", "=", "=0.5", "=1", "=-1", "=nan", "=1e9", "=x"]))


@quietly
@given(st.lists(items, max_size=4).map(",".join) | st.text(max_size=20))
def test_a_text_is_an_augmentation_or_an_error_that_names_it(text):
    try:
        chosen = parse_augment(text)
    except ValueError as error:
        assert "augment" in str(error)
    else:
        assert parse_augment(",".join(f"{name}={strength}" for name, strength in chosen.items())) == chosen


@quietly
@given(st.dictionaries(st.sampled_from([*TrainConfig.help_texts(), "epoch"]), values, max_size=3) | values)
def test_settings_are_kept_or_refused_by_name(content):
    try:
        config = TrainConfig.from_dict(content)
    except (TypeError, ValueError) as error:
        assert any(name in str(error) for name in (*TrainConfig.help_texts(), "values", "config field"))
    else:
        assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


curves = st.fixed_dictionaries({"iter": st.lists(st.integers(0, 99), max_size=3), "loss": values, "acc": values})


@quietly
@given(values | st.fixed_dictionaries({"record": st.fixed_dictionaries({"train": curves, "val": curves}),
                                       "epochs": values}))
def test_a_history_is_one_or_is_refused(content):
    try:
        history = History.from_dict(content)
    except ValueError:
        return
    assert History.from_dict({"record": history.record, "epochs": history.epochs}) == history
    assert history.best is None or history.best in history.epochs


@quietly
@given(values, st.none() | st.integers(-5, 5), st.none() | st.integers(6, 20), st.booleans())
def test_numbers_are_finite_and_within_bounds(value, low, high, integer):
    try:
        number = check_number("it", value, low, high, integer)
    except (TypeError, ValueError) as error:
        assert "it=" in str(error)
    else:
        assert number == value and np.isfinite(float(number)) and type(number) in (int, float)
        assert (low is None or number >= low) and (high is None or number <= high)


@quietly
@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_probabilities_are_some_whatever_the_logits(logits):
    logits = np.array(logits, np.float32)
    probabilities = softmax(logits)
    assert probabilities.min() >= 0 and probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    assert (probabilities.max(1) == probabilities[np.arange(len(logits)), logits.argmax(1)]).all()


@quietly
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_the_confusion_matrix_counts_every_pair_once(pairs):
    true, guess = np.array(pairs, int).reshape(-1, 2).T
    counts = plots.confusion_matrix(true, guess, 4)
    assert counts.sum() == len(pairs) and counts.trace() == (true == guess).sum()
    assert all(counts[a, b] == pairs.count((a, b)) for a, b in pairs)
