"""Signal classes, one file each; a config names its file."""
