"""What a reader must know before believing a density: kernel, slice thickness, contrast, inspiration, coverage."""

from dataclasses import dataclass

from radnode_inference.header import Header
from radnode_inference.match import is_sharp
from radnode_inference.models.chest_ct.lung_density import Density
from radnode_inference.volume import Volume

THIN_MM, THICK_MM = 1.5, 3.0
SMALL_LUNGS_ML, DENSE_HU = 2500.0, -700.0


@dataclass(frozen=True, kw_only=True)
class Gates:
    """statements: for the reader, in order. density_stands: LAA and Perc15 may be given. trusted: nothing biases them."""

    statements: tuple[str, ...]
    density_stands: bool
    trusted: bool


def gates(header: Header, volume: Volume, total_ml: float, both: Density) -> Gates:
    """The gates of CT densitometry: Gierada, Acad Radiol 2010;17:146 for kernel and thickness."""
    doubts = [s for s in (kernel(header), contrast(header), inspiration(total_ml, both)) if s]
    thickness = max(header.number("SliceThickness") or 0.0, volume.spacing[0])
    left_out = None
    if thickness > THICK_MM:
        left_out = f"LAA and Perc15 are left out: slices of {thickness:g} mm average emphysema away (3 mm at most)."
    elif thickness > THIN_MM:
        doubts.append(f"Slices of {thickness:g} mm (above 1.5 mm): LAA-950 is underestimated.")
    statements = (left_out, *doubts) if left_out else tuple(doubts)
    return Gates(statements=tuple(statements), density_stands=left_out is None, trusted=not statements)


def kernel(header: Header) -> str | None:
    name = " ".join(header.texts("ConvolutionKernel"))
    sharp = is_sharp(name)
    if sharp is None:
        return f"The kernel {name or '(not stated)'} is not a known one: LAA-950 may be off if it enhances edges."
    return (
        f"Sharp kernel {name}: noise raises LAA-950 and lowers Perc15; not comparable with soft kernels."
        if sharp
        else None
    )


def contrast(header: Header) -> str | None:
    given = header.text("ContrastBolusAgent").upper()
    if not given or given in ("NONE", "NO", "NATIVE", "UNENHANCED"):
        return None
    return "Contrast medium was given: lung densities are raised, LAA-950 is underestimated."


def inspiration(total_ml: float, both: Density) -> str | None:
    """The limits are this program's working rule, not published ones: they only lead to a sentence."""
    if total_ml >= SMALL_LUNGS_ML and both.mean <= DENSE_HU:
        return None
    return f"Lungs of {total_ml:.0f} mL at a mean of {both.mean:.0f} HU: perhaps not a full inspiration; LAA-950 would be underestimated."


def coverage(cut: tuple[str, ...]) -> str | None:
    """The sentence for lungs that the scan does not hold whole, or None."""
    if not cut:
        return None
    where = {"top": "the top", "bottom": "the bottom", "side": "the side"}
    return f"The scan ends inside the lungs at {' and '.join(where[c] for c in cut)}: volumes are of the scanned part only."
