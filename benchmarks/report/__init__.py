"""The report: page, plots, text, JSON and CSV."""
