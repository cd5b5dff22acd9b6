"""Features of frozen backbones: the cache, augmented copies, batches prepared in the background."""
