"""From a table of paths to samples: the table, the one reader, the label map, the split."""
