"""The accuracy guard: it builds int8 candidates, measures them and takes the fastest that decides the same."""
