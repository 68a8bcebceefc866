"""One finished small run for all integration tests; each test works on a copy."""

from pathlib import Path

import pytest

from small_run import SmallRun, copy_pebble, holdfast, write_small


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A finished small run with verdict `keep`; never change it, its data or its base model (copy it)."""
    folder = tmp_path_factory.mktemp("small")
    run = write_small(folder, copy_pebble(folder / "base"))
    done = holdfast(*run.command())
    assert done.code == 0, done.err + done.out
    return run


@pytest.fixture
def copied(small: SmallRun, tmp_path: Path) -> SmallRun:
    """A copy of the finished run that a test may damage (data and base model are the shared ones)."""
    return small.copy(tmp_path)
