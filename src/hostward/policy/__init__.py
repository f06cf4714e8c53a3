"""The tenant's language: parsing, compiling to slices, explaining, proving. Pure: no I/O, no clock."""
