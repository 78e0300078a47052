"""What a reader must know before believing a density: kernel, slice thickness, contrast, inspiration, coverage."""

from dataclasses import dataclass

from radnode_inference.header import Header
from radnode_inference.match import contrast_of, is_sharp, kernel_of, says_expiration, thickness_of
from radnode_inference.models.chest_ct.lung_density import Density
from radnode_inference.volume import Volume

THIN_MM, THICK_MM = 1.5, 3.0
SMALL_LUNGS_ML, DENSE_HU = 2500.0, -700.0


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One gate. seen: what it looked at, in words; doubt: the sentence for the reader, None when it is passed.

    closed: LAA and Perc15 may not be given at all.
    """

    name: str
    seen: str
    doubt: str | None = None
    closed: bool = False


@dataclass(frozen=True, kw_only=True)
class Gates:
    """statements: for the reader, one for each doubt and one that names the gates passed.

    density_stands: LAA and Perc15 may be given. trusted: nothing biases them.
    """

    statements: tuple[str, ...]
    density_stands: bool
    trusted: bool


def gates(header: Header, volume: Volume, total_ml: float, both: Density) -> Gates:
    """The gates of CT densitometry: Gierada, Acad Radiol 2010;17:146 for kernel and thickness."""
    asked = (thickness(header, volume), kernel(header), contrast(header), inspiration(header, total_ml, both))
    doubts = [f"Gate {g.name}: {g.doubt}" for g in asked if g.doubt]
    passed = ", ".join(f"{g.name} ({g.seen})" for g in asked if not g.doubt)
    return Gates(
        statements=(*doubts, *((f"Gates passed: {passed}.",) if passed else ())),
        density_stands=not any(g.closed for g in asked),
        trusted=not doubts,
    )


def thickness(header: Header, volume: Volume) -> Gate:
    mm = max(thickness_of(header) or 0.0, volume.spacing[0])
    gate = Gate(name="thickness", seen=f"{mm:g} mm")
    if mm > THICK_MM:
        doubt = f"LAA and Perc15 are left out: slices of {mm:g} mm average emphysema away (3 mm at most)."
        return Gate(name=gate.name, seen=gate.seen, doubt=doubt, closed=True)
    if mm > THIN_MM:
        doubt = f"slices of {mm:g} mm (above 1.5 mm): LAA-950 is underestimated."
        return Gate(name=gate.name, seen=gate.seen, doubt=doubt)
    return gate


def kernel(header: Header) -> Gate:
    sharp, name = is_sharp(kernel_of(header)), kernel_of(header).replace("\\", " ")
    doubt = None
    if sharp is None:
        doubt = f"{name or '(not stated)'} is not a known one: LAA-950 may be off if it enhances edges."
    elif sharp:
        doubt = f"sharp kernel {name}: noise raises LAA-950 and lowers Perc15; not comparable with soft kernels."
    return Gate(name="kernel", seen=name, doubt=doubt)


def contrast(header: Header) -> Gate:
    given = contrast_of(header)
    if not given:
        return Gate(name="contrast", seen="none stated")
    doubt = "contrast medium was given: lung densities and mass are raised, LAA-950 is underestimated."
    return Gate(name="contrast", seen=given, doubt=doubt)


def inspiration(header: Header, total_ml: float, both: Density) -> Gate:
    """The limits are this program's working rule, not published ones: they only lead to a sentence."""
    seen = f"{total_ml:.0f} mL at a mean of {both.mean:.0f} HU"
    doubt = None
    if says_expiration(header):
        doubt = "the series is named an expiration; LAA-950 and Perc15 are defined for full inspiration."
    elif total_ml < SMALL_LUNGS_ML or both.mean > DENSE_HU:
        doubt = f"lungs of {seen}: perhaps not a full inspiration; LAA-950 would be underestimated."
    return Gate(name="inspiration", seen=seen, doubt=doubt)


def coverage(cut: tuple[str, ...]) -> str | None:
    """The sentence for lungs that the scan does not hold whole, or None."""
    if not cut:
        return None
    where = {"top": "the top", "bottom": "the bottom", "side": "the side"}
    return f"Gate coverage: the scan ends inside the lungs at {' and '.join(where[c] for c in cut)}: volumes and mass are of the scanned part only."
