import shutil

import pytest

from paddle_fasternet.native import library


@pytest.mark.skipif(not shutil.which("g++"), reason="no g++ here, so nothing was built")
def test_the_library_is_built_where_there_is_a_compiler():
    """All native tests skip where it is missing, so that something must fail."""
    loaded, reason = library.load_library()
    assert loaded is not None, reason
    assert "fp32-plain" in library.kinds()
