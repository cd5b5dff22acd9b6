"""Which explanation to believe: all methods of one artifact, measured on the same images with the same ruler."""
