"""The loop of a training, its optimizer, its checkpoints and its run folder."""
