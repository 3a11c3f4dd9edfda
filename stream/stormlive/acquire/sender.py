"""The hook's sender thread: finds the server, keeps the connection, tries again when it is lost."""

import logging
import random
import threading
import time
from collections.abc import Iterator

import zmq

from stormlive.acquire.account import Account
from stormlive.acquire.connection import CONNECT_S, Connection, RefusedError, StartMaker
from stormlive.acquire.stock import Stock
from stormlive.wire.codec import ProtocolError
from stormlive.wire.curve import ClientKeys
from stormlive.wire.handshake import Handshake
from stormlive.wire.text import one_line
from stormlive.wire.transport import Waker, connect_dealer

_log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0


class Sender(threading.Thread):
    """Ships what the outbox holds until FINAL, a refusal or `Account.stop`; the account keeps failures."""

    def __init__(
        self,
        address: str,
        stock: Stock,
        account: Account,
        waker: Waker,
        make_start: StartMaker,
        keys: ClientKeys | None = None,
    ) -> None:
        super().__init__(name="stormlive-sender", daemon=True)
        self._keys = keys
        self._address = address
        self._stock = stock
        self._outbox = stock.outbox
        self._account = account
        self._waker = waker
        self._make_start = make_start

    def run(self) -> None:
        """Connect, stream, and connect again until the run is closed."""
        account = self._account
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._keep_trying(context)
            # With `block` whoever sends has it from `FrameStream`.
            if account.failed is not None and self._outbox.mode != "block":
                _log.warning(
                    "no live picture of this run any more, the acquisition is not affected: %s", account.failed
                )
        except (RefusedError, ProtocolError) as refusal:
            account.failed = one_line(refusal)
            _log.warning("no live picture of this run, the acquisition is not affected: %s", account.failed)
        except Exception as error:
            account.failed = one_line(f"the sender failed: {type(error).__name__}: {error}")
            _log.exception("no live picture of this run, the acquisition is not affected")
        finally:
            self._outbox.shut = account.failed or "the run has ended"
            account.enter("done")
            self._stock.spool.close()
            account.done.set()
            context.destroy(linger=0)

    def _keep_trying(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        account, pauses = self._account, _pauses()
        while not self._over():
            handshake = Handshake()
            socket = connect_dealer(context, self._address, keys=self._keys, handshake=handshake)
            connection = Connection(socket, self._stock, account, self._waker, self._make_start)
            account.enter("hello")
            try:
                if handshake.settle(CONNECT_S) and connection.greet():
                    pauses = _pauses()
                    connection.stream()
                else:
                    account.trouble = handshake.refusal() or account.trouble
            finally:
                handshake.close()
                socket.close(linger=0)
            if self._over():
                return
            account.enter("detached")
            account.connected = False
            account.outage.begin()
            _log.info("no connection: %s", account.trouble)
            self._stock.disconnected()
            self._pause(next(pauses))

    def _over(self) -> bool:
        account = self._account
        nothing_to_send = account.ending is not None and self._outbox.form is None
        return account.stop.is_set() or account.final is not None or nothing_to_send

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._over() and (left := deadline - time.monotonic()) > 0:
            self._stock.relieve()
            self._account.outage.go_on(self._account.trouble)
            self._account.stop.wait(min(0.1, left))


def _pauses() -> Iterator[float]:
    """Yield the pauses between attempts: longer each time, and not in step with other senders."""
    pause = FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, LONGEST_PAUSE_S)
