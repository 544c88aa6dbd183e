"""Images and their targets in batches: folders, formats, transforms, loaders, checks."""
