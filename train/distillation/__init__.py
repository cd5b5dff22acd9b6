"""Runs made from another run: a student taught by a teacher, a slim VGG."""
