"""The search for better settings: what may be tried (space), and which settings are tried next (study)."""
