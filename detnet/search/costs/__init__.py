"""What networks of a space cost: counted, measured, and bounded."""

# By name, as `Constraints.costs_of` tells them of a path; `search.records.SpaceNetwork` keeps them.
COSTS = ("macs", "params", "latency_ms")
