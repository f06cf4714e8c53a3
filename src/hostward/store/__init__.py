"""Durable state of the controller behind one small protocol."""
