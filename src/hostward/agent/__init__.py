"""Makes one host enforce the revision it was given, and says what it sees."""
