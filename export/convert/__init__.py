"""From a Keras model to backbone and head, and from those to every runtime's file."""
