"""Work in which somebody dies at a line: a few of all deaths (`scripts/every-line` takes each)."""

from functools import partial

import pytest

from tests.harness import every_container, every_join
from tests.harness.deaths import every_line

pytestmark = pytest.mark.slow


@pytest.mark.timeout(900)
def test_whoever_dies_during_a_join_or_a_removal_all_lists_agree_and_the_same_command_succeeds() -> None:
    report = every_line(every_join.founded, first=17, step=151, tries=1)
    assert list(report.failed.values()) == []
    assert len(report.reached) >= 3, f"not reached: {report.missed}"


@pytest.mark.timeout(900)
def test_a_daemon_that_dies_in_an_operation_leaves_all_as_before_or_as_after_it() -> None:
    report = every_line(partial(every_container.founded, ["plug"]), first=70, step=200, tries=1)
    assert list(report.failed.values()) == []
    assert len(report.reached) >= 1, f"not reached: {report.missed}"
