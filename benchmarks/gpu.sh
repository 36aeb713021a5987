#!/usr/bin/env bash
# All that needs a GPU, in one go; about ten minutes. Reports and logs go to $OUT.
#
#   benchmarks/gpu.sh
#   DEVICE=cpu benchmarks/gpu.sh    # rehearsal on tiny inputs: shows that everything runs
#
# DEVICE (cuda), OUT (benchmarks/results) and PYTHON (python3) come from the environment.
set -uo pipefail
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda}
out=${OUT:-benchmarks/results}
python=${PYTHON:-python3}
mkdir -p "$out"

failed=0
measure() {  # a failure must not cost the measurements after it
    printf '\n== %s (after %s s)\n' "$*" "$SECONDS"
    "$python" -m "benchmarks.$1" "${@:2}" --device "$device" --output "$out/gpu.md" 2>"$out/$1.log" ||
        { failed=1; echo "failed:"; tail -n 5 "$out/$1.log"; }
}

if [ "$device" = cpu ]; then
    measure roofline --rounds 1
    measure kernels --size 16 24
    measure inference --rounds 1 --size 16 24 --modes bf16 --only Compacter
    measure training --rounds 1 --batch 2 --patch 8 --only "Compacter, channels_last"
    measure scaling --rounds 1 --sides 8 16 --batches --windows --depths --plot "$out/gpu.png"
else
    measure roofline --rounds 20
    measure kernels
    measure inference --rounds 20 --modes bf16 fp16
    measure inference --rounds 20 --modes bf16 fp16 compile compile-bf16 graphs graphs-fp16 \
        --only Compacter SwinIR-light
    measure training --rounds 50 --patch 64
    measure scaling --rounds 20 --sides 64 128 256 512 1024 --plot "$out/gpu.png"
fi
printf '\n== done (after %s s): %s\n' "$SECONDS" "$out/gpu.md"
exit "$failed"
