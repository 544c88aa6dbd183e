"""Images and their targets in batches: folders, formats, transforms, data sets, checks."""
