"""Explanations: are they kept, do they point at the lesion, are they faithful, what do they cost?"""
