"""Data sets: folders on disk and a generated, synthetic one."""
