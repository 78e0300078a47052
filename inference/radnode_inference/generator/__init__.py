"""Generated patients: breast MR and chest CT with known truth, for demonstration, tests and training. Never clinical.

`breast.phantom` and `chest.phantom` make arrays; `dicom_writer` writes them as marked DICOM; `studies` names a set.
"""

VERSION = "1"
"""Written into every generated image (study.GENERATOR_CREATOR); raise it when the anatomy changes."""
