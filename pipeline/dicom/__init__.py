"""DICOM files to a cine, or to a coded refusal: numpy and pydicom only, for the hospital's image runs it too."""
