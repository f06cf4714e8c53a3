"""Hostward: datacenter network security on attested end hosts."""

__version__ = "0.1.0"
