"""From an image to a verdict: classifier and cascade, gate, the rule that combines them, drift."""
