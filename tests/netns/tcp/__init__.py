"""TCP conversations as readable tables, and what runs them through the loaded programs."""
