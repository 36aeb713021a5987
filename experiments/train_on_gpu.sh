#!/usr/bin/env bash
# Trains a run of the queue on a bare machine: PyTorch, a GPU, no network.
#
#   WHEELS=wheels IMAGES=images OUT=out MINUTES=25 experiments/train_on_gpu.sh SRx2
#   DEVICE=cpu ITERATIONS=4 ...      # rehearsal
#
# RUN:        SRx2, SRx3, SRx4, ColorDN, GrayDN or JPEG.
# WHEELS:     folder of wheels of what the machine lacks; at least basicsr and lmdb. Made elsewhere by
#             pip wheel --no-deps --no-build-isolation -w wheels basicsr lmdb addict
# IMAGES:     GT/ (sharp photographs, at least 132 x 132) and Set5/ (HR images).
# OUT:        gets RUN/: weights, training state, logs, a summary; what is there is gone on with.
# MINUTES:    of training (25). ITERATIONS: of the whole schedule, over all machines (200000); the
#             learning rate falls to zero over them.
set -euo pipefail
run=${1:?which run: SRx2, SRx3, SRx4, ColorDN, GrayDN, JPEG}
project=$(cd "$(dirname "$0")/.." && pwd)
device=${DEVICE:-cuda} minutes=${MINUTES:-25} iterations=${ITERATIONS:-200000}
wheels=$(realpath "${WHEELS:?folder of wheels}") images=$(realpath "${IMAGES:?folder with GT and Set5}")
out=$(realpath -m "${OUT:?folder for the results}")/$run
mkdir -p "$out/work/datasets" && cd "$out/work"

step() { printf '\n== %s (after %s s)\n' "$*" "$SECONDS"; }

step "install"
python=${PYTHON:-python3}
[ -d packages ] || "$python" -m pip install --quiet --no-index --no-deps --target packages "$wheels"/*.whl
export PYTHONPATH="$project:$PWD/packages"
basicsr() { "$python" -m compacter_arch "$@"; }

step "data"
scale=1
case $run in SRx*) scale=${run#SRx} ;; esac
[ -d datasets/Set5 ] || basicsr prepare benchmarks "$images/Set5" --name Set5
[ -e datasets/GT.raw ] || {
    if [ "$scale" = 1 ]; then
        basicsr prepare raw "$images/GT" -o datasets/GT.raw
    else
        basicsr prepare lr "$images/GT" -o datasets/LR --scale "$scale" --gt datasets/GT
        basicsr prepare raw datasets/LR -o datasets/LR.raw
        basicsr prepare raw datasets/GT -o datasets/GT.raw
    fi
}

keys=(
    name="$run" "datasets:train:subsets=[GT]" datasets:train:dataroot_gt=datasets/GT.raw
    datasets:train:io_backend:type=raw datasets:train:dataset_enlarge_ratio=100
    train:total_iter="$iterations" "train:scheduler={type: CosineAnnealingLR, eta_min: 1.0e-7}"
    val:val_freq=5000 logger:print_freq=500 logger:save_checkpoint_freq=2500 logger:use_tb_logger=false
)
if [ "$scale" = 1 ]; then
    keys+=(datasets:val:name=Set5 datasets:val:dataroot_gt=datasets/Set5/GT)
else
    keys+=(
        datasets:train:subset_type=RawPairedImageDataset datasets:train:dataroot_lq=datasets/LR.raw
        train:optim_g:lr=1e-3
    )
fi
if [ "$device" = cuda ]; then
    keys+=(train:amp=bf16 train:channels_last=true)
    [ "$scale" = 1 ] || keys+=(datasets:train:keep_on_device=true)
else
    keys+=(num_gpu=0 datasets:train:num_worker_per_gpu=0 datasets:train:batch_size_per_gpu=2
        datasets:train:gt_size=48 val:val_freq=2 logger:print_freq=1 logger:save_checkpoint_freq=2)
fi
case $run in SRx3 | SRx4) # the body of x2's weights; the reconstruction is new
    keys+=("path:pretrain_network_g=zoo://sr_x2" path:strict_load_g=false) ;;
esac

step "train"
basicsr train -opt "$project/options/train_Compacter_$run.yml" --auto_resume --time_limit "$minutes" \
    --force_yml "${keys[@]}"

step "collect"
"$python" "$project/experiments/pack.py" "experiments/$run" "$out/Compacter_$run" | tee "$out/summary.txt"
grep -h "# psnr" "experiments/$run"/train_*.log | tail -n 1 | tee -a "$out/summary.txt"
step "done: $out; give back all of it but work/packages and work/datasets to go on elsewhere"
