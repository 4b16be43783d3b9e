#!/bin/sh
# From real slices to Table 1, with and without synthetic images, in the folder that is given.
# Run it again and it goes on where it stopped; finished steps are not repeated.
set -eu
examples=$(cd "$(dirname "$0")" && pwd)
folder=${1:-demo}
mkdir -p "$folder"
cd "$folder"
small="--set backbone=small --set width=8 --set head_width=64 --set zoom_input=2 --set assignment=aligned"
small="$small --set lr=0.003 --set box_weight=3"

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }

say "1/9 Crop and scale the slices, and split them by patient"
medaug preprocess "$examples/data/images" --boxes "$examples/data/boxes.json" --size 64 --strip none --label tumour --resume

say "2/9 Train a generator on the training patients (about 8 minutes on two cores, 14 on one)"
medaug train-gan real.h5 --generator boxgan --resume

say "3/9 Draw images for slightly changed boxes"
medaug synthesize --n 1000 --boxes boxes.json --resume

say "4/9 Drop those that clearly lack a tumour"
medaug filter synthetic.h5 --resume

say "5/9 Train a detector on the real images (about 2 minutes)"
medaug train-detector real.h5 --out real-only --steps 1000 $small --resume

say "6/9 Train it again with the synthetic images, for as many steps"
medaug train-detector real.h5 --synthetic kept.h5 --ratio 1 --out with-synthetic --steps 1000 $small --resume

say "7/9 Look at real against synthetic"
medaug tsne real.h5 kept.h5 --overwrite

say "8/9 Table 1: held-out patients, without and with synthetic images"
medaug evaluate real.h5 real-only with-synthetic --overwrite

say "9/9 A small study on half of the patients: does it help to paste real lesions elsewhere, or to paint new ones?"
medaug study real.h5 --arm copy-paste --arm inpaint --fraction 0.5 --seeds 2 --steps 300 --kimg 2 $small --split val

python "$examples/page.py" .
