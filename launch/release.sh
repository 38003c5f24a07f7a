#!/usr/bin/env bash
# Makes the model that the package ships, from seeds alone: renders the records and checks their digest, trains
# configs/zero_real.py with seeds 0, 1 and 2 and from these the student of configs/released.py, evaluates, exports to
# ONNX and int8, and writes kdfas_jax/runs/weights/, docs/released.md and tests/golden/released.npz. Given again, it
# resumes. About two hours and a half on two idle cores.
#   launch/release.sh                                       # the release
#   launch/release.sh people=80,size=48,steps=2 /tmp/trial  # a rehearsal, all of it below /tmp/trial
# Further arguments go to each training, such as --config.eval.stability=0.
# FORMATS=stablehlo leaves ONNX out.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
arguments=${1:-} formats=${FORMATS:-onnx,onnx_int8}
data=data run=runs/released weights=kdfas_jax/runs/weights card=docs/released.md
golden=tests/golden/released.npz
if [ $# -gt 1 ]; then
  data=$2/data run=$2/released weights=$2/weights card=$2/released.md golden=$2/golden.npz
fi
if [[ $formats == *onnx* ]] && ! python -c "import jax2onnx, onnxruntime" 2>/dev/null; then
  python -m pip install --quiet --disable-pip-version-check -r requirements-onnx.txt
fi
release=kdfas_jax.commands.export.release
python -m $release records "$arguments" "$weights" --data_dir="$data"
given=()
for seed in 0 1 2; do
  teacher=$(dirname "$run")/zero_real-seed=$seed name=spoof$((seed + 1))
  python main.py --config="configs/zero_real.py:$arguments" --config.seed=$seed --workdir="$teacher" \
    --config.data.data_dir="$data" "${@:3}"
  given+=("--config.teachers.${name/%spoof1/spoof}.checkpoint=$teacher")
done
python main.py --config="configs/released.py:$arguments" --workdir="$run" --config.data.data_dir="$data" "${given[@]}" \
  "${@:3}"
python -m $release write "$run" "$weights" --formats="$formats" --card="$card" --golden="$golden"
