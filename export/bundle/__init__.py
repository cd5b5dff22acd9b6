"""Writing a bundle: the pipeline, golden vectors, model card, bill of materials."""
