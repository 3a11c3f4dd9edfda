#!/usr/bin/env bash
# Everything that needs a GPU, in one call: the tests marked gpu, whether the picture is the CPU's, and how fast it is made.
# Usage: benchmarks/gpu.sh [PYTHON]   Result: benchmarks/results/gpu.json
# PYTHON needs torch for CUDA, numpy, scipy, safetensors, rich, pytest and pytest-timeout. Wheels in the folder wheels/ of
# the repository are used beside what it has. Where the rest of stormlive's requirements is missing, the tests that need
# them are left out, and named. Training on a GPU: see train_gpu.py and training_rate.py.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
export PYTHONPATH=stream:models:sim
if compgen -G "wheels/*.whl" >/dev/null; then
  site=$(mktemp -d)
  "$python" -m pip install --quiet --no-index --no-deps --target "$site" wheels/*.whl || exit 1
  export PYTHONPATH="$PYTHONPATH:$site"
fi
"$python" -c "import torch; assert torch.cuda.is_available(), 'no CUDA GPU here'; print(torch.cuda.get_device_name())" || exit 1
status=0
if "$python" -c "import pytest, pytest_timeout"; then
  # Without the conftest, which needs the whole program; a warning of other versions is no error here.
  "$python" -m pytest -q --noconftest -W default -m gpu tests/stream/test_gpu.py || status=1
else
  echo "SKIPPED: the tests marked gpu (no pytest or pytest-timeout)"
fi
if "$python" -c "import msgspec, zmq, platformdirs" 2>/dev/null; then
  "$python" -m pytest -q -W default -m gpu tests/stream/test_engine.py || status=1
else
  echo "SKIPPED: tests/stream/test_engine.py (no msgspec, pyzmq or platformdirs; wheels/ may hold them)"
fi
"$python" benchmarks/gpu.py || status=1
exit "$status"
