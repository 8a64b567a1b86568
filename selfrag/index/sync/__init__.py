"""From a folder to the catalog: scan, classify changes, read, split, embed."""
