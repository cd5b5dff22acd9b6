"""SonoEdge: train a medical image classifier, shrink it, prove what was kept, and run it on an edge device."""
