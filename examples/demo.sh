#!/bin/sh
# What medaug does, on real images that come with it, in the folder that is given:
#
#     sh examples/demo.sh [FOLDER] [--from-scratch]
#
# Boxes, classes and masks on brain slices, then nodules in 3D, in about seven minutes on two cores, drawn by generators that
# come with medaug. --from-scratch trains its own on the images here, for most of an hour more. Run it again and it goes on
# where it stopped; finished steps are not repeated.
set -eu
examples=$(cd "$(dirname "$0")" && pwd)
data=$examples/data nodules=$examples/nodules
folder=demo of=7 gan=brain-t1c-128 cubes=nodules-32
for word; do
  case $word in
    --from-scratch) of=8 gan=gan cubes=nodules/gan ;;
    -*) echo "usage: sh $0 [FOLDER] [--from-scratch]" >&2; exit 2 ;;
    *) folder=$word ;;
  esac
done
mkdir -p "$folder"
cd "$folder"
size=128 n=1000 steps=600 class_steps=300 mask_steps=400 side=32 mm=32 kimg=15 cubes_kimg=1
detector="--set backbone=small --set width=8 --set head_width=64 --set assignment=aligned --set lr=0.003 --set box_weight=3"
learning="--set frozen=0.5 --set contrast_weight=5 --set variety=15"  # as those that come with medaug

# Two steps go on at once where neither needs the other: each on half of the cores, the words of one in a file.
at=0 other='' log=meanwhile.log cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
export OMP_NUM_THREADS=$(((cores + 1) / 2))
say() { at=$((at + 1)); printf '\n\033[1m%s/%s %s\033[0m\n' $at $of "$*" >&2; }
meanwhile() { "$@" >>$log 2>&1 & other=$!; }
together() { wait "$other" || { tail -n 5 $log >&2; exit 1; }; other=''; }
trap 'test -z "$other" || kill "$other" 2>/dev/null || :' EXIT
trap 'exit 130' INT TERM

say "Crop and scale slices, with their boxes, masks and classes, and cubes around nodules; split them by patient"
medaug preprocess "$data/images" --boxes "$data/boxes.json" --masks "$data/masks" --classes "$data/classes.csv" --size $size --strip none --label tumour --resume
medaug preprocess "$nodules/images" --masks "$nodules/masks" --split "$nodules/split.csv" --regions $side --region-mm $mm --strip none --denoise none --window 0,255 --out nodules/real.h5 --resume

if test $gan = gan; then
  say "Train generators on the training patients, of slices and meanwhile of cubes"
  meanwhile medaug train-gan nodules/real.h5 --generator boxgan $learning --set form=mask --set classes=false --set flip_rows=true --set base=128 --set max_maps=64 --set embedding=16 --set batch=4 --set r1_every=16 --kimg $cubes_kimg --out nodules/gan --resume
  medaug train-gan real.h5 --generator boxgan $learning --set classes=false --kimg $kimg --resume
  together
fi

say "Draw slices for slightly changed boxes, and drop those that clearly lack a tumour; meanwhile train a classifier"
meanwhile medaug train-classifier real.h5 --steps $class_steps --set warm_up=20 --set validations=4 --resume
medaug synthesize --gan $gan --n $n --boxes boxes.json --resume
medaug filter synthetic.h5 --resume
together

say "Train a detector on the real slices, and meanwhile the same one with the synthetic slices, for as many steps"
meanwhile medaug train-detector real.h5 --out real-only --steps $steps $detector --resume
medaug train-detector real.h5 --synthetic kept.h5 --ratio 1 --out with-synthetic --steps $steps $detector --resume
together

say "Table 1: boxes on held-out patients, without and with synthetic slices; meanwhile train a segmenter"
meanwhile medaug train-segmenter real.h5 --steps $mask_steps --set warm_up=20 --set validations=4 --resume
medaug evaluate real.h5 real-only with-synthetic --overwrite

say "Look at real against synthetic slices, and draw nodules for the masks of real ones"
medaug tsne real.h5 kept.h5 --detector real-only --overwrite
medaug synthesize --gan $cubes --like nodules/real.h5 --n 16 --jitter 0 --out nodules/synthetic.h5 --resume
together

say "Classes and masks on the same held-out patients"
meanwhile medaug evaluate real.h5 classifier --out classes --overwrite
medaug evaluate real.h5 segmenter --out masks --overwrite
together

say "One page of it all"
python "$examples/page.py" .
