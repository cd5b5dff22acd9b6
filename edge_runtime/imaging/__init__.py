"""From a file to model input: decoding, colour, resizing, the scan area, picture quality, lesion masks."""
