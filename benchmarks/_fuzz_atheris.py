"""The coverage-guided half of fuzz.py, in a process of its own: atheris ends it when the time is over."""

import sys
import time
import tracemalloc

import atheris

with atheris.instrument_imports(include=["stormlive.wire"]):
    from fuzz import MOST_KEPT, answer, kind_of

TELL_S = 0.5
seen: set[str] = set()
figures = {"messages": 0.0, "slowest": 0.0, "told": 0.0}


def target(data: bytes) -> None:
    # The first byte chooses the pixel part, the rest is the header; the golden vectors begin with none of these.
    pixels = {1: [bytes(16384)], 2: [bytes(80)], 3: [b"", b""], 4: [b""]}.get(data[0] if data else 0, [])
    began = time.perf_counter()
    outcome = answer([data[1:], *pixels] if pixels else [data])
    figures["slowest"] = max(figures["slowest"], 1000 * (time.perf_counter() - began))
    figures["messages"] += " " not in outcome
    if len(seen) < MOST_KEPT:
        seen.add(kind_of(outcome))
    # It ends the process without asking, so the figures so far are told now and then.
    if began - figures["told"] > TELL_S:
        figures["told"] = began
        allocated = answer.most_allocated  # type: ignore[attr-defined]
        print(f"kinds {len(seen)}\nallocated {allocated}\nmessages {figures['messages']:.0f}")
        print(f"slowest {figures['slowest']}", flush=True)


if __name__ == "__main__":
    tracemalloc.start(1)
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
