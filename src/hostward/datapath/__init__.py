"""The kernel programs and their maps behind one small protocol."""
