"""Labelled images: folders and layouts, groups of copies, splits, the audit."""
