"""Codes of the lung model. DICOM has none for LAA and Perc15: those are private (99RADNODE)."""

from radnode_inference.findings import Code

LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")
AIRWAYS = Code(value="110726009", scheme="SCT", meaning="Trachea and bronchus")
EMPHYSEMA = Code(value="87433001", scheme="SCT", meaning="Pulmonary emphysema")
MASS = Code(value="118538004", scheme="SCT", meaning="Mass")
MEAN_DENSITY = Code(value="112181", scheme="DCM", meaning="Mean Attenuation Coefficient")
LAA_950 = Code(value="LAA-950", scheme="99RADNODE", meaning="Lung voxels below -950 HU")
LAA_910 = Code(value="LAA-910", scheme="99RADNODE", meaning="Lung voxels below -910 HU")
PERC15 = Code(value="PERC15", scheme="99RADNODE", meaning="15th percentile of lung density")

EMPHYSEMA_LAA_950 = 5.0
"""Percent; quantitative emphysema in COPDGene's analyses (Amaza et al., Int J COPD 2021;16:1231)."""
