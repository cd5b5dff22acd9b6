"""Integer-only targets: what each allows, a check that walks the graph, and the compilers."""
