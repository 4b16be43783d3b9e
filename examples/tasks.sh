#!/bin/sh
# Classes and masks: from real slices to tables with and without synthetic images, in the folder that is given.
# Run it again and it goes on where it stopped. The generator alone takes about as long as the demo's; none of it is
# evidence about your data.
set -eu
data=${DATA:-$(cd "$(dirname "$0")" && pwd)/data}
folder=${1:-tasks}
size=64 kimg=15 n=250 steps=600
mkdir -p "$folder"
cd "$folder"

# 1. Crop and scale the slices with the class and the mask of each, and split them by patient
medaug preprocess "$data/images" --boxes "$data/boxes.json" --classes "$data/classes.csv" --masks "$data/masks" --size $size --strip none --resume

# 2. Train a generator that is told both, on the training patients
medaug train-gan real.h5 --generator boxgan --set form=mask --set contrast_weight=5 --kimg $kimg --resume

# 3. Draw images like those of the store, each with its class and mask
medaug synthesize --like real.h5 --n $n --resume

# 4. Classification: the same network and steps, without and with the synthetic images
medaug train-classifier real.h5 --out class-real --steps $steps --resume
medaug train-classifier real.h5 --synthetic synthetic.h5 --ratio 1 --out class-both --steps $steps --resume
medaug evaluate real.h5 class-real class-both --out classes --overwrite
medaug tsne real.h5 synthetic.h5 --features class-real --features class-both --colour class --overwrite

# 5. Segmentation, likewise
medaug train-segmenter real.h5 --out mask-real --steps $steps --resume
medaug train-segmenter real.h5 --synthetic synthetic.h5 --ratio 1 --out mask-both --steps $steps --resume
medaug evaluate real.h5 mask-real mask-both --out masks --overwrite

# 6. Are the lesions where their masks asked for them? Found by the segmenter that saw real images alone
medaug tsne real.h5 synthetic.h5 --segmenter mask-real --out obedience.png --overwrite

# 7. The tables, and the pages beside them
cat classes/table.md masks/table.md
echo "$PWD/classes/evaluation.html $PWD/masks/evaluation.html $PWD/tsne.html" >&2
