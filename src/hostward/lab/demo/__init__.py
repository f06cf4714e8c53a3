"""The main job, shown: each claim is checked as it is made, and a sink beyond Hostward is the judge."""
