"""COCO's records, masks and keypoints, read and checked once for training and scoring."""
