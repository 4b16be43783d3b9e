"""JSON Schemas of every file that users or plugins write or read."""
