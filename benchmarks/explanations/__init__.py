"""Explanations: are they kept, do they point at the lesion, do they tell the truth, what do they cost?"""
