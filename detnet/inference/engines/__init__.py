"""What runs a trained detector on this machine; one interface, whatever computes."""
