"""Frames of a camera, clip, cine loop or folder: reading, classifying, smoothing, recording."""
