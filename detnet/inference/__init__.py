"""A trained detector on pictures: prediction, drawing, and a look into its backbone."""
