"""Series in, findings out: reading DICOM images into volumes and running models on them."""
