"""YOLOv3 (Redmon & Farhadi 2018) with any timm backbone."""
