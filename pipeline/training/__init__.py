"""Teachers, students and the losses between them."""
