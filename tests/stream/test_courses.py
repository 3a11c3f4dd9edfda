"""The two state machines: as the protocol's page has them, and never off their course."""

import re
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from stormlive.acquire.account import COURSE as SENDER
from stormlive.acquire.account import Account
from stormlive.server.run import COURSE as RUN
from stormlive.server.run import Owner, Run
from stormlive.wire.calibration import Calibration
from stormlive.wire.flow import Credit
from stormlive.wire.messages import Start

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


def documented(head: str) -> dict[str, tuple[str, ...]]:
    """Return the states of a table on the page and where each leads."""
    _, _, table = PAGE.read_text(encoding="utf-8").partition(f"| {head} |")
    rows = table.split("\n\n")[0].splitlines()[2:]
    cells = [row.strip("|").split("|") for row in rows]
    return {re.findall("`(.*?)`", row[0])[0]: tuple(re.findall("`(.*?)`", row[2])) for row in cells}


@pytest.mark.parametrize(("head", "course"), [("sender is", SENDER), ("run is, at the server", RUN)])
def test_the_page_has_the_states_as_they_are(head: str, course: Mapping[str, tuple[str, ...]]) -> None:
    page = documented(head)
    assert page.keys() == course.keys()
    for state, following in course.items():
        assert sorted(page[state]) == sorted(following), state


def test_nobody_leaves_the_course() -> None:
    account = Account("tcp://127.0.0.1:5557", uuid4())
    calibration = Calibration(pixel_size_nm=100, baseline_adu=0, photons_per_adu=1, exposure_ms=1)
    start = Start(run=uuid4(), name="r", dtype="uint8", shape=(2, 2), calibration=calibration)
    run = Run(start, Owner(peer=b"", credit=Credit(0)), 1)
    with pytest.raises(RuntimeError, match="idle cannot become backfill"):
        account.enter("backfill")
    with pytest.raises(RuntimeError, match="opening cannot become backfill"):
        run.enter("backfill")
