"""Viewers that ask for the picture for ever, as a script: ``viewer_scenario.py reads|deaf ADDRESS``."""

import itertools
import sys
import time

import zmq

from stormlive.wire.client import LiveClient
from stormlive.wire.codec import encode
from stormlive.wire.transport import connect_dealer, send
from stormlive.wire.viewing import View


def reads(address: str) -> None:
    with LiveClient(address, 30.0) as client:
        while True:
            client.view("canvas")
            print("answered", flush=True)


def deaf(address: str) -> None:
    """Ask and never read what comes."""
    with LiveClient(address) as client:
        port = client.welcome.view_port
    context = zmq.Context()
    dealer = connect_dealer(context, f"tcp://127.0.0.1:{port}", max_part_bytes=2**30)
    dealer.poll(10_000, zmq.POLLOUT)
    for request in itertools.count():
        send(dealer, [encode(View(request=request))])
        print("asked", flush=True)
        time.sleep(0.01)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
