"""A network that a test cuts."""

import contextlib
import socket
import threading


class Cable:
    """A network between hook and server that can be cut without either end being told."""

    def __init__(self, address: str) -> None:
        self._to = int(address.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._through = threading.Event()
        self._through.set()
        self._open: list[socket.socket] = [self._listener]
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._to))
                self._open += [ours, theirs]
                for source, target in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._through.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self._through.clear()

    def mend(self) -> None:
        self._through.set()

    def close(self) -> None:
        self.mend()
        for end in self._open:
            end.close()
