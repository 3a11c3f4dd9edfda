"""Random bytes against the decoder: every input is a message or a ProtocolError, within bounded memory.

Two fuzzers share one target. "mutation" is our own: it damages the golden vectors, as bytes and as msgpack trees, and
keeps what is answered in a way not seen before. "atheris" is coverage-guided (pip install atheris; Linux, macOS).

    python benchmarks/fuzz.py --seconds 60 --fuzzer mutation atheris
"""

import argparse
import importlib.util
import random
import re
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from _report import report

from stormlive.wire.codec import MAX_HEADER_BYTES, ProtocolError, decode, encode, frame_of, unpack
from stormlive.wire.messages import FrameHeader

# A header of 8 KiB makes at most as many objects as it has bytes, of a hundred bytes each.
MOST_ALLOCATED = 100 * MAX_HEADER_BYTES
MOST_KEPT = 4000
GOLDEN = Path(__file__).parents[1] / "tests" / "stream" / "test_messages.py"
NASTY_BYTES = [
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xd6\xff\xff\xff\xff\xff",
    b"\xcf" + b"\xff" * 8,
    b"\xcb\x7f\xf8" + bytes(6),
    b"\x91" * 300,
    b"\x81\xa1a" * 300,
]
NASTY_VALUES: list[Any] = [
    None, True, -1, 0, 2**31, 2**48, 2**63, -(2**63), 2**64 - 1, 0.5, float("nan"), float("inf"), "", "x" * 301,
    "\x00", "a\nb", "../..", "\u202e", b"", b"\xff" * 64, [], {}, [[[[[]]]]], {"a": {"b": {}}}, [0, 0], [[5, 4]],
    [[0, 2**48]], [[0, 1]] * 257, [1, 1], [65_536, 65_536], [0, 1], {str(n): n for n in range(17)},
]  # fmt: skip


class Found(Exception):  # noqa: N818
    """The decoder did what it must not do."""


def answer(parts: Sequence[bytes]) -> str:
    """Decode, and return what came of it; Found when that is neither a message nor a ProtocolError."""
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    try:
        message, pixels = unpack(parts)
        outcome = type(message).__name__
        if isinstance(message, FrameHeader) and message.at is msgspec.UNSET and pixels is not None:
            frame_of(message, pixels)
    except ProtocolError as error:
        message, outcome = None, str(error)
        if "\n" in outcome or len(outcome.encode()) > 300:
            raise Found(f"the refusal is no short line: {outcome!r}") from None
    allocated = tracemalloc.get_traced_memory()[1] - before
    if allocated > MOST_ALLOCATED:
        raise Found(f"{allocated} bytes were allocated")
    answer.most_allocated = max(answer.most_allocated, allocated)  # type: ignore[attr-defined]
    # By their bytes: a number that is none does not equal itself.
    if message is not None and len(parts[0]) <= MAX_HEADER_BYTES // 4:
        data = encode(message)
        if encode(decode(data)) != data:
            raise Found("a message is another one after it was sent on")
    return outcome


answer.most_allocated = 0  # type: ignore[attr-defined]


def golden() -> list[bytes]:
    """Return the golden vectors."""
    spec = importlib.util.spec_from_file_location("golden", GOLDEN)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{GOLDEN} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [bytes.fromhex(data) for _, data in [*module.GOLDEN, *module.GOLDEN_LATER]]


def damaged_bytes(data: bytes, pool: list[bytes], rng: random.Random) -> bytes:
    """Return bytes with a few pieces changed, cut, doubled, or taken from others."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 if out:
                out[at % len(out)] = rng.randrange(256)
            case 1:
                out[at:at] = rng.choice(NASTY_BYTES)
            case 2:
                del out[at : at + rng.randrange(1, 32)]
            case 3:
                out[at:at] = out[at : at + rng.randrange(1, 64)] * rng.choice((1, 2, 50))
            case 4:
                other = rng.choice(pool)
                out[at:] = other[rng.randrange(len(other) + 1) :]
            case _ if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
    return bytes(out[: 2 * MAX_HEADER_BYTES])


def damaged_tree(data: bytes, rng: random.Random) -> bytes:
    """Return a msgpack map with another value, key or type somewhere."""
    try:
        fields = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return data
    if not isinstance(fields, dict) or not fields:
        return data
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        key = rng.choice(list(fields))
        match rng.randrange(5):
            case 0:
                fields.pop(key)
            case 1:
                fields[rng.choice(("x", "", "type", "run", "nbytes", "shape"))] = rng.choice(NASTY_VALUES)
            case 2 if isinstance(fields[key], int):
                fields[key] = fields[key] + rng.choice((-1, 1, -(2**32), 2**32, rng.randrange(-(2**40), 2**40)))
            case _:
                fields[key] = rng.choice(NASTY_VALUES)
        if not fields:
            break
    try:
        return msgspec.msgpack.encode(fields)
    except (OverflowError, TypeError, msgspec.MsgspecError):
        return data


def damaged_parts(header: bytes, rng: random.Random) -> list[bytes]:
    """Return a header with none, too many, too long or too short pixel parts."""
    match rng.randrange(8):
        case 0:
            return []
        case 1:
            return [header, header]
        case 2:
            return [header, b"", b""]
        case 3 | 4:
            return [header, bytes(rng.choice((0, 0, 0, 1, 80, 16383, 16384, 16385)))]
        case _:
            return [header]


def kind_of(outcome: str) -> str:
    """Return an outcome without its numbers and quoted texts: what is new is worth keeping."""
    return re.sub(r"\d+", "#", re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "'", outcome))[:90]


def mutation(seconds: float, seed: int) -> dict[str, Any]:
    """Run our own fuzzer and return its figures."""
    rng = random.Random(seed)
    seeds = golden()
    pool = list(seeds)
    seen: set[str] = set()
    inputs = messages = 0
    slowest_s = 0.0
    tracemalloc.start(1)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        base = rng.choice(rng.choice((seeds, pool)))
        match rng.randrange(8):
            case 0:
                header = rng.randbytes(rng.randrange(64))
            case 1 | 2 | 3:
                header = damaged_bytes(base, pool, rng)
            case _:
                header = damaged_tree(base, rng)
        parts = damaged_parts(header, rng)
        began = time.perf_counter()
        try:
            outcome = answer(parts)
        except Exception as error:
            raise SystemExit(f"input {[part.hex() for part in parts]}: {type(error).__name__}: {error}") from error
        slowest_s = max(slowest_s, time.perf_counter() - began)
        inputs += 1
        messages += " " not in outcome
        if (kind := kind_of(outcome)) not in seen and len(pool) < MOST_KEPT:
            seen.add(kind)
            pool.append(header)
    tracemalloc.stop()
    return {
        "fuzzer": "mutation",
        "seconds": seconds,
        "inputs": inputs,
        "of them messages": messages,
        "kinds of answer": len(seen),
        "largest allocation (bytes)": answer.most_allocated,  # type: ignore[attr-defined]
        "slowest (ms)": 1000 * slowest_s,
        "failures": 0,
    }


def coverage_guided(seconds: float, seed: int) -> dict[str, Any]:
    """Run atheris in a process of its own, which it ends itself, and return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(golden()):
            (Path(folder) / str(number)).write_bytes(data)
        limits = [f"-max_total_time={seconds:.0f}", f"-seed={seed or 1}", f"-max_len={2 * MAX_HEADER_BYTES}"]
        limits.append(f"-artifact_prefix={folder}/")
        command = [sys.executable, str(Path(__file__).with_name("_fuzz_atheris.py")), *limits, folder]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
    done = re.search(r"Done (\d+) runs", child.stderr)
    if child.returncode or done is None:
        raise SystemExit(child.stderr[-4000:])
    figures = dict(re.findall(r"^(kinds|allocated|messages|slowest) ([\d.]+)$", child.stdout, re.MULTILINE))
    return {
        "fuzzer": "atheris",
        "seconds": seconds,
        "inputs": int(done[1]),
        "of them messages": int(figures["messages"]),
        "kinds of answer": int(figures["kinds"]),
        "largest allocation (bytes)": int(figures["allocated"]),
        "slowest (ms)": float(figures["slowest"]),
        "failures": 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fuzzer", nargs="+", choices=("mutation", "atheris"), default=["mutation"])
    options = parser.parse_args()
    fuzzers = {"mutation": mutation, "atheris": coverage_guided}
    rows = [fuzzers[name](options.seconds, options.seed) for name in options.fuzzer]
    limits = {"header_bytes": MAX_HEADER_BYTES, "most_allocated_bytes": MOST_ALLOCATED}
    report("fuzz", rows, {**vars(options), **limits})


if __name__ == "__main__":
    main()
