"""Detectors as networks of fixed form, which other runtimes can take, and the ONNX file of one."""
