"""The controller's durable state, behind one protocol with a SQLite and an in-memory implementation."""
