"""Runs on the disk: found, loaded, resumed, and what each keeps."""
