"""A trained detector behind an address: images in by HTTP, COCO's results out."""
