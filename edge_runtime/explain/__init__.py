"""Grad-CAM from the outputs of the head, its colours, and the files of an explained image."""
