"""Networks: backbones and their weights, the paper's fusion, compact students, where they are cut."""
