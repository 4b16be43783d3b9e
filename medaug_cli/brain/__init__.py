"""Brain extraction: the head, the brain in a slice and in a volume, and whether to believe a mask."""
