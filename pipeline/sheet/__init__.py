"""Pictures of every study on one page."""
