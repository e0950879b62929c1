"""Names in characters that Matplotlib's own font lacks."""
import warnings

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

from paddle_fasternet import plots, show_images  # noqa: E402
from paddle_fasternet.plots import fonts  # noqa: E402

OTHER = "STIXGeneral"  # comes with Matplotlib, as does its own font, DejaVu Sans


@pytest.fixture(autouse=True)
def fresh():
    fonts._family.cache_clear()
    fonts._warn.cache_clear()
    yield
    fonts._family.cache_clear()
    fonts._warn.cache_clear()
    plt.close("all")


@pytest.fixture
def character():
    """One that DejaVu Sans lacks and ``OTHER`` has."""
    from matplotlib.font_manager import findfont
    there = fonts._characters(findfont(OTHER)) - fonts._characters(findfont("DejaVu Sans"))
    return chr(max(there))


def test_a_font_that_has_them_is_taken_for_their_texts_alone(character, monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "FONTS", ("No such font", OTHER))
    before = dict(matplotlib.rcParams)
    names = ["plain", f"odd {character}"]
    axes = show_images(np.zeros((2, 8, 8, 3), np.uint8), 1, 2, pred=names)
    assert OTHER not in axes[0].title.get_fontfamily() and axes[1].title.get_fontfamily()[-1] == OTHER
    for draw in (plots.plot_confusion, plots.plot_class_accuracy):
        ax = draw([0, 1], [0, 1], names)
        assert [OTHER in tick.get_fontfamily() for tick in ax.get_yticklabels()] == [False, True]
        ax.figure.canvas.draw()  # a missing glyph would be a warning, and so an error
        plots.save_figure(tmp_path / "a.png", draw, [0, 1], [0, 1], names)
    assert dict(matplotlib.rcParams) == before


def test_one_warning_where_no_font_has_them(monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "FONTS", ("No such font",))
    monkeypatch.setattr(fonts, "_find_files", lambda: None)
    names = ["plain", "长尾猫头鹰"]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(2):
            plots.save_figure(tmp_path / "a.png", plots.plot_confusion, [0, 1], [0, 1], names)
            show_images(np.zeros((2, 8, 8, 3), np.uint8), 1, 2, pred=names)[0].figure.canvas.draw()
    assert len(found) == 1 and "install one of: " in str(found[0].message)


def test_fonts_installed_after_matplotlib_made_its_list_are_found(monkeypatch, tmp_path):
    from matplotlib import font_manager
    seen = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["/new/NotoSansCJK-Regular.ttc", "/new/Other.ttf"])
    monkeypatch.setattr(font_manager.fontManager, "addfont", seen.append)
    fonts._find_files.__wrapped__()
    assert seen == ["/new/NotoSansCJK-Regular.ttc"]


def test_chinese_names_are_drawn_where_a_font_is_installed(tmp_path):
    if fonts._family(frozenset("长尾猫头鹰")) is None:
        pytest.skip("no font of the list is installed here")
    plots.save_figure(tmp_path / "a.png", plots.plot_confusion, [0, 1], [0, 1], ["plain", "长尾猫头鹰"])
