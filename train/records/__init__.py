"""What the files of a run hold, as types, and the one strict reader of such files."""
