"""A run from settings to model, of a detector or of a classifier; the papers' presets."""
