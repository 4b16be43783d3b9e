#!/bin/sh
# Volumes: cubes around lung nodules, new ones, new nodules in whole volumes, and tables with and without them, in the
# folder that is given: 185 CPU seconds on one thread, three minutes of a core that is free (22 minutes were measured of one that
# others kept at a seventh). Run it again and it goes on where it stopped. Thirteen nodules and a generator of minutes are
# evidence of nothing but that each step runs.
set -eu
data=${DATA:-$(cd "$(dirname "$0")" && pwd)/nodules}
folder=${1:-nodules}
side=16 whole=48,48,48 mm=1 kimg=1 n=40 steps=80
mkdir -p "$folder"
cd "$folder"

# 1. Cut a cube of 16 mm around each nodule and one without (these volumes have no room for larger ones beside the nodule),
#    and keep the whole volumes beside them; CT needs no stripping
medaug preprocess "$data/images" --masks "$data/masks" --split "$data/split.csv" --regions $side --region-mm 16 --normals --strip none --denoise none --window 0,255 --out cubes.h5 --resume
medaug preprocess "$data/images" --masks "$data/masks" --split "$data/split.csv" --volumes $whole --volume-mm $mm --strip none --denoise none --window 0,255 --out whole/volumes.h5 --resume

# 2. Train a generator of cubes that is told where the nodule is
medaug train-gan cubes.h5 --generator boxgan --set form=mask --set flip_rows=true --set base=64 --set max_maps=32 --set embedding=16 --set batch=4 --kimg $kimg --resume

# 3. Draw cubes like the real ones, with a nodule and without, and put drawn nodules into the whole volumes
medaug synthesize --like cubes.h5 --n $n --out synthetic.h5 --resume
medaug synthesize --like cubes.h5 --into whole/volumes.h5 --n $n --out pasted.h5 --resume
medaug store export pasted.h5 --format nnunet --out nnunet --overwrite

# 4. Is there a nodule in a cube? The same network and steps, without and with the synthetic cubes
medaug train-classifier cubes.h5 --set width=8 --set warm_up=10 --out class-real --steps $steps --resume
medaug train-classifier cubes.h5 --set width=8 --set warm_up=10 --synthetic synthetic.h5 --ratio 1 --out class-both --steps $steps --resume
medaug evaluate cubes.h5 class-real class-both --out classes --overwrite

# 5. Where is it in a whole volume? By patches of it, without and with the pasted nodules
medaug train-segmenter whole/volumes.h5 --set patch=24 --set levels=4 --set width=8 --set batch=4 --set warm_up=10 --out mask-real --steps $steps --resume
medaug train-segmenter whole/volumes.h5 --set patch=24 --set levels=4 --set width=8 --set batch=4 --set warm_up=10 --synthetic pasted.h5 --ratio 1 --out mask-both --steps $steps --resume
medaug evaluate whole/volumes.h5 mask-real mask-both --out masks --overwrite

# 6. The tables, and the pages beside them
cat classes/table.md masks/table.md
echo "$PWD/classes/evaluation.html $PWD/masks/evaluation.html $PWD/nnunet" >&2
