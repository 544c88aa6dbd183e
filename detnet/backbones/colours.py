"""ImageNet's colours, which networks are given normalised: red, green, blue of values in [0, 1]."""

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
