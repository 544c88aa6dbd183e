"""Writes a trained detector as a folder that other runtimes take, and checks what they find."""
