"""What the REST API answers, as pydantic models by topic: the shapes and their meaning, nothing of how they are come by."""
