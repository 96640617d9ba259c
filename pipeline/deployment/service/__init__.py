"""`evenbeat serve`: a DICOM node that loses no study, reads each, and sends what it found onward."""
