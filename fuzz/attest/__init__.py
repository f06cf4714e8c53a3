"""Fuzz targets of what reads hostile evidence."""
