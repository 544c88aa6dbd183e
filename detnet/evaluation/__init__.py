"""Scores of detections, why they are missed, and whether a difference is more than noise."""
