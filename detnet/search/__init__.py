"""Searching a space for networks: what they cost, what is allowed, what to try next.

Nothing here knows a data set or a detector: whoever searches gives a function that scores a path.
"""
