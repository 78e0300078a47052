"""Codes of the kinetics model. Private ones (99RADNODE) stand where DICOM and SNOMED have none."""

from radnode_inference.findings import Code

BREAST = Code(value="76752008", scheme="SCT", meaning="Breast")
ENHANCING_LESION = Code(value="C113842", scheme="NCIt", meaning="Enhancing Lesion")
ADC = Code(value="113041", scheme="DCM", meaning="Apparent Diffusion Coefficient")
CURVE = Code(value="CURVE-TYPE", scheme="99RADNODE", meaning="Kinetic curve, delayed phase")
PERSISTENT = Code(value="130597", scheme="DCM", meaning="Persistent delayed phase: Type 1 curve")
PLATEAU = Code(value="130598", scheme="DCM", meaning="Plateau delayed phase: Type 2 curve")
WASHOUT = Code(value="130599", scheme="DCM", meaning="Washout delayed phase: Type 3 curve")
PEAK_ENHANCEMENT = Code(value="PE-PEAK", scheme="99RADNODE", meaning="Peak percent enhancement")
EARLY_ENHANCEMENT = Code(value="PE-EARLY", scheme="99RADNODE", meaning="Early percent enhancement")
SER = Code(value="SER", scheme="99RADNODE", meaning="Signal enhancement ratio")
ENHANCING_VOLUME = Code(value="ENHANCING-VOLUME", scheme="99RADNODE", meaning="Enhancing volume")
BACKGROUND = Code(value="BPE-MEDIAN", scheme="99RADNODE", meaning="Background parenchymal enhancement, median percent")
RATIO = Code(value="1", scheme="UCUM", meaning="no units")
MM2_PER_S = Code(value="mm2/s", scheme="UCUM", meaning="mm2/s")

SER_BINS: tuple[tuple[float, float, Code], ...] = tuple(
    (low, high, Code(value=f"VOLUME-SER-{n}", scheme="99RADNODE", meaning=f"Enhancing volume, SER {low:g} to {high:g}"))
    for n, (low, high) in enumerate(((0.0, 0.9), (0.9, 1.0), (1.0, 1.3), (1.3, 1.75), (1.75, 3.0)), 1)
)
"""(above, up to, volume): the bins of the I-SPY analysis (Hylton, Radiology 2012;263:663)."""
