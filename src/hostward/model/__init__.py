"""The nouns of design §1 as frozen values: no I/O, no clock, nothing but the standard library and ``errors``."""
