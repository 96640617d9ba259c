"""Arrays in, arrays out: the preprocessing that training and the hospital share, in numpy."""
