"""Strangers at a server's ports, as a script that is killed in the middle: viewers that ask, clients that rave.

python _chaos_crowd.py PLAN ADDRESS FOLDER viewers|garbage
"""

import contextlib
import random
import socket
import sys
import threading
import time
from pathlib import Path
from uuid import UUID

import numpy as np
import zmq
from _chaos_keys import keys_of
from _chaos_plan import CALIBRATION, Plan
from fuzz import damaged_bytes, damaged_parts, damaged_tree

from stormlive.wire.client import LiveClient
from stormlive.wire.codec import ProtocolError, encode, frame_header, unpack
from stormlive.wire.curve import ClientKeys, load_client_keys
from stormlive.wire.frame import Frame
from stormlive.wire.messages import PROTOCOL, Credit, Drop, End, Hello, Message, Ping, Refer, Start
from stormlive.wire.transport import connect_dealer, send
from stormlive.wire.viewing import View
from stormlive_sim.errors import InputError

MOST_FOREIGN_RUNS = 2
SHAPE = (16, 16)
# The first bytes of ZeroMQ's own protocol.
ZMTP = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
Ports = tuple[int, int, int]


class Strangers:
    """Each in a thread of its own; what goes wrong for them is their own business."""

    def __init__(self, address: str, seed: int, keys: ClientKeys | None) -> None:
        self._address = address
        self._seed = seed
        self._keys = keys
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        rng = random.Random(seed)
        self._foreign = [UUID(int=rng.getrandbits(128)) for _ in range(MOST_FOREIGN_RUNS)]
        self._seen: UUID | None = None

    def come(self, kind: str, how_many: int) -> None:
        """Let them in."""
        course = self._look if kind == "viewers" else self._rave
        for number in range(how_many):
            threading.Thread(target=self._again, args=(course, random.Random(self._seed + number)), daemon=True).start()

    def _again(self, course, rng: random.Random) -> None:  # noqa: ANN001
        while True:
            nobodys = contextlib.suppress(OSError, InputError, zmq.ZMQError)
            with nobodys, LiveClient(self._address, 1.0, keys=self._keys) as client:
                course(client, rng)
            time.sleep(0.02)

    def _look(self, client: LiveClient, rng: random.Random) -> None:
        for _ in range(rng.randrange(1, 12)):
            if rng.random() < 0.3:
                client.status(0.2)
                continue
            rectangle = tuple(rng.randrange(-5, 90) for _ in range(2)) + tuple(rng.randrange(1, 200) for _ in range(2))
            picture = rng.choice(("canvas", "widefield", "last"))
            client.view(picture, level=rng.randrange(4) if picture == "canvas" else 0, rectangle=rectangle)

    def _rave(self, client: LiveClient, rng: random.Random) -> None:
        data = int(self._address.rpartition(":")[2])
        ports = (data, client.welcome.view_port, client.welcome.status_port)
        status = client.status(0.3)
        self._seen = self._seen if status is None or status.run is None else status.run
        for _ in range(rng.randrange(2, 8)):
            rng.choice(
                (self._noise, self._half_a_handshake, self._damage, self._damage, self._steal, self._run_of_own)
            )(ports, rng)

    def _noise(self, ports: Ports, rng: random.Random) -> None:
        with socket.create_connection(("127.0.0.1", rng.choice(ports)), 1) as plain:
            plain.sendall(rng.randbytes(rng.choice((1, 100, 10_000))))
            time.sleep(rng.uniform(0, 0.1))

    def _half_a_handshake(self, ports: Ports, rng: random.Random) -> None:
        with socket.create_connection(("127.0.0.1", rng.choice(ports)), 1) as plain:
            plain.sendall(ZMTP[: rng.randrange(1, len(ZMTP) + 1)] + rng.randbytes(rng.randrange(200)))
            time.sleep(rng.uniform(0, 0.2))

    def _damage(self, ports: Ports, rng: random.Random) -> None:
        """Say things that are nearly right."""
        pool = [encode(message) for message in self._sayings(rng)]
        with self._dealer(rng.choice(ports[:2])) as dealer:
            if rng.random() < 0.5:
                send(dealer, [encode(Hello(version=PROTOCOL, run=self._seen))])
            for _ in range(rng.randrange(1, 30)):
                damage = rng.choice((damaged_tree, lambda data, rng: damaged_bytes(data, pool, rng)))
                parts = damaged_parts(damage(rng.choice(pool), rng), rng)
                if parts and not self._opens_a_run(parts):
                    send(dealer, parts)
            time.sleep(0.05)

    def _steal(self, ports: Ports, rng: random.Random) -> None:
        """Take up a run that is another's."""
        if self._seen is not None:
            self._say(ports[0], rng, self._seen, "stolen")

    def _run_of_own(self, ports: Ports, rng: random.Random) -> None:
        """Begin a run, and vanish."""
        self._say(ports[0], rng, rng.choice(self._foreign), "foreign")

    def _say(self, port: int, rng: random.Random, run: UUID, name: str) -> None:
        with self._dealer(port) as dealer:
            send(dealer, [encode(Hello(version=PROTOCOL, run=run))])
            if rng.random() < 0.8:
                send(dealer, [encode(self._start(run, name))])
            for seq in range(rng.randrange(6)):
                pixels = np.full(SHAPE, 40_000, np.uint16)
                frame = Frame(run=run, seq=seq, t_ns=0, axes={}, pixels=pixels, replay=False)
                send(dealer, [encode(frame_header(frame)), pixels.tobytes()])
            send(
                dealer,
                [
                    encode(
                        rng.choice((End(run=run, n=3, exit_status="ok"), Drop(run=run, ranges=((0, 99),), reason="x")))
                    )
                ],
            )
            time.sleep(0.05)

    def _start(self, run: UUID, name: str) -> Start:
        return Start(run=run, name=name, dtype="uint16", shape=SHAPE, calibration=CALIBRATION)

    def _sayings(self, rng: random.Random) -> list[Message]:
        run = self._seen or self._foreign[0]
        return [
            Hello(version=PROTOCOL, run=run),
            self._start(self._foreign[1], "foreign"),
            Ping(clock_ns=1),
            Drop(run=run, ranges=((0, 500),), reason="mine now"),
            End(run=run, n=1, exit_status="ok"),
            Refer(run=run, seq=0, axes=({"time": 0},), replay=True),
            Credit(bytes=2**20),
            View(request=rng.randrange(100), picture="canvas", level=0, x=0, y=0, w=50, h=50),
        ]

    def _opens_a_run(self, parts: list[bytes]) -> bool:
        """Return whether a message would take one of the few runs that a server has; then all others would wait."""
        try:
            message, _ = unpack(parts)
        except ProtocolError:
            return False
        return isinstance(message, Start) and message.run not in self._foreign

    @contextlib.contextmanager
    def _dealer(self, port: int):  # noqa: ANN202
        dealer = connect_dealer(self._context, f"tcp://127.0.0.1:{port}", keys=self._keys)
        try:
            dealer.poll(300, zmq.POLLOUT)
            yield dealer
        finally:
            dealer.close(linger=0)


def main() -> None:
    plan, address, folder, kind = Plan.read(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3]), sys.argv[4]
    Strangers(address, plan.seed, load_client_keys(keys_of("crowd", folder))).come(kind, 3)
    sys.stdin.read()


if __name__ == "__main__":
    main()
