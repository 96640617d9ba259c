"""Plans, runs and the page that compares them."""
