"""Joins and removals in which somebody dies at a line: a few of all (`scripts/every-line` takes each)."""

import pytest

from tests.harness.every_line import every_line

pytestmark = pytest.mark.slow
STEP = 151
"""Every so many lines: six deaths."""


@pytest.mark.timeout(900)
def test_whoever_dies_during_a_join_or_a_removal_all_lists_agree_and_the_same_command_succeeds() -> None:
    report = every_line(first=17, step=STEP, tries=1)
    assert report.failed == []
    assert report.reached >= 3, f"not reached: {report.missed}"
