"""Fixtures that most tests of the whole path take; a file whose server has other limits has its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_engine import FakeEngine
from served import Closed
from server_process import Servers
from stormlive.acquire import connection, sender
from stormlive.server.loop import Server


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hooks look for a server again soon."""
    monkeypatch.setattr(connection, "CONNECT_S", 0.5)
    monkeypatch.setattr(sender, "LONGEST_PAUSE_S", 0.3)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path / "runs")
    yield servers
    servers.close()


@pytest.fixture
def closed() -> Closed:
    return Closed()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def server(engine: FakeEngine, closed: Closed) -> Iterator[Server]:
    with Server(engine, finish=closed, bind="tcp://127.0.0.1:*", heartbeat_s=0.2) as running:
        yield running
        engine.gate.set()
    running.raise_if_failed()
