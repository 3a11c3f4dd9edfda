#!/usr/bin/env bash
# Everything that needs a GPU, in one call: the tests marked gpu, the engine's speed, the rate of training, and a short
# training with its accuracy.
# Usage: benchmarks/gpu.sh [PYTHON]   Results: benchmarks/results/*_cuda.json
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
export PYTHONPATH=stream:models:sim
"$python" -c "import torch; assert torch.cuda.is_available(), 'no CUDA GPU here'; print(torch.cuda.get_device_name())"
"$python" -m pytest -m gpu -q
for side in 64 256 512 2048; do
  "$python" benchmarks/engine.py --device cuda --side "$side" --batch "$((side > 512 ? 1 : 16))"
  mv benchmarks/results/engine_cuda.json "benchmarks/results/engine_cuda_$side.json"
done
"$python" benchmarks/training_rate.py --device cuda
weights=$(mktemp -d)/livenet-gpu.safetensors
"$python" benchmarks/train_gpu.py --output "$weights"
"$python" benchmarks/accuracy.py --models "livenet,$weights" --only uniform,isolated,empty \
  --json benchmarks/results/accuracy_cuda.json
