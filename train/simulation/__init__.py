"""Generated images: a B-mode simulator, phantoms, a stand-in for the paper's data set."""
