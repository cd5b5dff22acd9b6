import sys

from edge_runtime.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
