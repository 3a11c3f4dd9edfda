"""How long `import stormlive` takes in a script that has numpy already and in one that has nothing."""

import statistics
import subprocess
import sys

from _report import report

ROUNDS = 9
_TIMED = (
    "import time; {first}t = time.perf_counter(); import stormlive; stormlive.StreamHook; "
    "print(time.perf_counter() - t)"
)


def main() -> None:
    cases = {"nothing imported before": "", "after numpy": "import numpy; "}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for round_number in range(ROUNDS + 1):
        for name, first in cases.items():
            code = _TIMED.format(first=first)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            if round_number:  # the first fills the file cache
                seconds[name].append(float(done.stdout))
    rows = [{"case": name, "median s": statistics.median(s), "worst s": max(s)} for name, s in seconds.items()]
    report("import_time", rows, {"rounds": ROUNDS})


if __name__ == "__main__":
    main()
