"""From a folder of scans and their annotations to a store, its boxes.json and a report."""
