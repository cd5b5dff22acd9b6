"""Options, wherever they come from: what values they take, where they do something, and the file of --config."""
