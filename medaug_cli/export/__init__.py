"""Write the images, boxes and masks of a store for other tools: pictures with boxes, or volumes in their geometry."""

from medaug_cli.export.exporting import export_store, takes_unannotated, write_png

__all__ = ["export_store", "takes_unannotated", "write_png"]
