"""A generated breast MR as Siemens, GE and Philips scanners hand it over: which series, and what stands where.

Private elements by the makers' conformance statements, as pydicom's private dictionary names them.
"""

from dataclasses import replace

import numpy as np

from radnode_inference.generator.breast import BreastPhantom, Image
from radnode_inference.generator.dicom_parts import Layout, Order, Private
from radnode_inference.generator.fields import Grid
from radnode_inference.generator.stacks import (
    ADC_ATTRIBUTES,
    DWI_ATTRIBUTES,
    T2_ATTRIBUTES,
    Stack,
    Written,
    contrast,
    dynamic_stack,
    stack_of,
    stored,
)

SIEMENS = {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Skyra"}
GE = {"Manufacturer": "GE MEDICAL SYSTEMS", "ManufacturerModelName": "SIGNA Architect"}
PHILIPS = {"Manufacturer": "Philips Medical Systems", "ManufacturerModelName": "Ingenia"}
SIEMENS_BLOCK, GE_ACQUISITION, GE_PARAMETERS = "SIEMENS MR HEADER", "GEMS_ACQU_01", "GEMS_PARM_01"
PHILIPS_IMAGING, PHILIPS_MR = "Philips Imaging DD 001", "Philips MR Imaging DD 001"
LOCALIZER_S, T2_S, DWI_S = 0.0, 5.0, 60.0
PHILIPS_SLOPES = {"t2": 1.6, "dwi": 0.9, "adc": 1.1, "dynamic": 1.3}
GE_NO_B = Private(tag=0x00431039, creator=GE_PARAMETERS, vr="IS", value=["0", "2", "0", "0"])
PHILIPS_NO_B = Private(tag=0x20011003, creator=PHILIPS_IMAGING, vr="FL", value=0.0)
"""Where diffusion images have their b value; both makers write the element into every MR image."""
UNNUMBERED = {"TemporalPositionIdentifier": None, "NumberOfTemporalPositions": None, "TemporalResolution": None}


def siemens(phantom: BreastPhantom, order: Order, *, first_phase: int = 0) -> tuple[Written, ...]:
    """Phases as series told apart by their times only; the b value private; subtractions and projections made in line."""
    phases = [
        dynamic_stack(phantom, order, i).having(
            SequenceName="*fl3d1", ImageType=["ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"], **UNNUMBERED, **SIEMENS
        )
        for i in range(first_phase, len(phantom.times_s))
    ]
    made = []
    for stack in phases:
        made.append(("t1_fl3d_tra_dyn", stack))
        if stack is not phases[0]:
            rise = minus(stack, phases[0])
            made.append(
                ("t1_fl3d_tra_dyn_SUB", rise.having(ImageType=["DERIVED", "PRIMARY", "M", "NORM", "DIS2D", "SUB"]))
            )
            kind = ["DERIVED", "SECONDARY", "PROJECTION IMAGE", "M", "NORM", "DIS2D", "SUB", "MIP_TRA"]
            made.append(("t1_fl3d_tra_dyn_SUB_MIP_TRA", projected(rise).having(ImageType=kind)))
    dynamic = tuple(Written(number=6 + n, description=d, stacks=(s,)) for n, (d, s) in enumerate(made))
    if not phantom.other_sequences:
        return dynamic
    t2 = stack_of(phantom.t2, T2_S, T2_ATTRIBUTES).having(
        SequenceName="*tse2d1_17", ImageType=["ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"], **SIEMENS
    )
    weighted = tuple(siemens_diffusion(image, b) for b, image in sorted(phantom.dwi.items()))
    kind = ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "NORM", "DIS2D"]
    low, high = sorted(phantom.dwi)
    adc = stack_of(phantom.adc, DWI_S, ADC_ATTRIBUTES).having(
        ImageType=kind, SequenceName=f"*ep_b{low}_{high}", **SIEMENS
    )
    return (
        Written(
            number=1, description="localizer", stacks=(localizer(phantom).having(SequenceName="*fl2d1", **SIEMENS),)
        ),
        Written(number=2, description="t2_tse_fs_tra", stacks=(t2,)),
        Written(number=3, description="ep2d_diff_tra_TRACEW", stacks=weighted),
        Written(number=4, description="ep2d_diff_tra_ADC", stacks=(adc,)),
        *dynamic,
    )


def siemens_diffusion(image: Image, b: int) -> Stack:
    kind = ["ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW", "NORM", "DIS2D"]
    return stack_of(image, DWI_S, DWI_ATTRIBUTES).having(
        Private(tag=0x0019100C, creator=SIEMENS_BLOCK, vr="IS", value=str(b)),
        ImageType=kind,
        SequenceName=f"*ep_b{b}t" if b else "*ep_b0",
        **SIEMENS,
    )


def ge(phantom: BreastPhantom, order: Order, *, first_phase: int = 0) -> tuple[Written, ...]:
    """One dynamic series whose phases are numbered and timed by Trigger Time; every image names the agent."""
    raw = [dynamic_stack(phantom, order, i) for i in range(first_phase, len(phantom.times_s))]
    began = raw[0].begins_s
    name = Private(tag=0x0019109C, creator=GE_ACQUISITION, vr="LO", value="vibrant")
    phases = [
        replace(stack, written_s=began).having(
            name,
            GE_NO_B,
            TriggerTime=f"{1000 * (stack.begins_s - began):.3f}",
            ScanOptions=["FAST_GEMS", "EDR_GEMS", "FS"],
            TemporalResolution=None,
            **contrast(order),
            **GE,
        )
        for stack in raw
    ]
    subtracted = [
        minus(stack, phases[0]).having(
            ImageType=["DERIVED", "SECONDARY", "PROCESSED"], TriggerTime=None, **UNNUMBERED
        )
        for stack in phases[1:]
    ]  # fmt: skip
    dynamic = (
        Written(number=6, description="Ax VIBRANT MPh", stacks=tuple(phases)),
        *(
            Written(number=600 + n, description=f"Ph{n}/SUB: Ax VIBRANT MPh", stacks=(s,))
            for n, s in enumerate(subtracted, 1)
        ),
    )
    if not phantom.other_sequences:
        return dynamic
    t2 = stack_of(phantom.t2, T2_S, T2_ATTRIBUTES).having(GE_NO_B, ScanOptions=["FAST_GEMS", "FS"], **GE)
    weighted = tuple(
        stack_of(image, DWI_S, DWI_ATTRIBUTES).having(
            Private(tag=0x00431039, creator=GE_PARAMETERS, vr="IS", value=[str(10**9 + b), "8", "0", "0"]),
            ImageType=["ORIGINAL", "PRIMARY", "OTHER"],
            ScanningSequence=["EP", "SE"],
            **GE,
        )
        for b, image in sorted(phantom.dwi.items())
    )
    adc = stack_of(phantom.adc, DWI_S, ADC_ATTRIBUTES).having(ImageType=["DERIVED", "SECONDARY", "OTHER"], **GE)
    return (
        Written(number=1, description="3-Plane Loc", stacks=(localizer(phantom).having(GE_NO_B, **GE),)),
        Written(number=2, description="Ax T2 FSE FS", stacks=(t2,)),
        Written(number=3, description="Ax DWI", stacks=weighted),
        Written(number=300, description="Apparent Diffusion Coefficient (mm2/s)", stacks=(adc,)),
        *dynamic,
    )


def philips(phantom: BreastPhantom, order: Order, *, first_phase: int = 0) -> tuple[Written, ...]:
    """One dynamic series; one acquisition time for all of it, each phase's begin and the scale slope private."""
    series = philips_series(phantom, order, first_phase)
    began = next(s for s in series if s.description == DYNAMIC_NAME).stacks[0].begins_s
    timed = []
    for one in series:
        stacks = [
            replace(s, written_s=began).having(
                dynamic_begin(s.begins_s - began), TemporalResolution=None, **rescale(s)
            ) if "TemporalPositionIdentifier" in s.attributes else s.having(**rescale(s))
            for s in one.stacks
        ]  # fmt: skip
        timed.append(replace(one, stacks=tuple(stacks)))
    if not phantom.other_sequences:
        return tuple(timed)
    scout = localizer(phantom).having(ImageType=["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"], **PHILIPS)
    return (Written(number=101, description="Survey", stacks=(scout,)), *timed)


def philips_enhanced(phantom: BreastPhantom, order: Order, *, first_phase: int = 0) -> tuple[Written, ...]:
    """The same series, each as one multi-frame image whose frames go by place first; each frame with its own rescale."""
    return tuple(replace(s, by_place=True) for s in philips_series(phantom, order, first_phase))


DYNAMIC_NAME = "dyn eTHRIVE"


def philips_series(phantom: BreastPhantom, order: Order, first_phase: int) -> tuple[Written, ...]:
    slopes = PHILIPS_SLOPES
    phases = tuple(
        scaled(dynamic_stack(phantom, order, i, slopes["dynamic"])).having(
            PHILIPS_NO_B, ImageType=philips_type(order, "M", "FFE"), **PHILIPS
        )
        for i in range(first_phase, len(phantom.times_s))
    )  # fmt: skip
    dynamic = Written(number=601, description=DYNAMIC_NAME, stacks=phases)
    if not phantom.other_sequences:
        return (dynamic,)
    t2 = scaled(stack_of(phantom.t2, T2_S, T2_ATTRIBUTES, slopes["t2"])).having(
        PHILIPS_NO_B, ImageType=philips_type(order, "M", "SE"), **PHILIPS
    )
    plain = {**DWI_ATTRIBUTES, "ScanningSequence": "SE"} if order.layout is Layout.PHILIPS else DWI_ATTRIBUTES
    weighted = tuple(
        scaled(stack_of(image, DWI_S, plain, slopes["dwi"])).having(*philips_b(b, order), **standard_b(b, order), **PHILIPS)
        for b, image in sorted(phantom.dwi.items())
    )  # fmt: skip
    adc = scaled(stack_of(phantom.adc, DWI_S, ADC_ATTRIBUTES, slopes["adc"])).having(
        ImageType=["DERIVED", "PRIMARY", "ADC"] if order.layout is Layout.PHILIPS_ENHANCED else
        ["ORIGINAL", "PRIMARY", "ADC_SE", "ADC", "SE"], **PHILIPS
    )  # fmt: skip
    return (
        Written(number=201, description="T2W SPAIR TSE", stacks=(t2,)),
        Written(number=301, description="DWI SSh", stacks=weighted),
        Written(number=302, description="dDWI SSh", stacks=(adc,)),
        dynamic,
    )


def philips_type(order: Order, component: str, technique: str) -> list[str]:
    if order.layout is Layout.PHILIPS_ENHANCED:
        return ["ORIGINAL", "PRIMARY", "M"]
    return ["ORIGINAL", "PRIMARY", f"{component}_{technique}", component, technique]


def philips_b(b: int, order: Order) -> tuple[Private, ...]:
    direction = "I" if b else "O"
    return (
        Private(tag=0x20011003, creator=PHILIPS_IMAGING, vr="FL", value=float(b)),
        Private(tag=0x20011004, creator=PHILIPS_IMAGING, vr="CS", value=direction),
        Private(tag=0x20011013, creator=PHILIPS_IMAGING, vr="SL", value=61),
    )


def standard_b(b: int, order: Order) -> dict[str, object]:
    """Enhanced images must state the b value; the classic ones of older releases do not."""
    if order.layout is Layout.PHILIPS_ENHANCED:
        return {"DiffusionBValue": float(b)}
    return {"ImageType": ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"]}


def scaled(stack: Stack) -> Stack:
    """With the private scale slope: (stored * slope) / (slope * scale slope) is what was measured (Chenevert 2014)."""
    return stack.having(
        Private(tag=0x2005100D, creator=PHILIPS_MR, vr="FL", value=0.0),
        Private(tag=0x2005100E, creator=PHILIPS_MR, vr="FL", value=0.02 / stack.slope),
    )


def dynamic_begin(seconds: float) -> Private:
    return Private(tag=0x200510A0, creator=PHILIPS_MR, vr="FL", value=float(seconds))


def rescale(stack: Stack) -> dict[str, str]:
    return {"RescaleSlope": f"{stack.slope:.8g}", "RescaleIntercept": "0", "RescaleType": "normalized"}


def minus(stack: Stack, first: Stack) -> Stack:
    """What brightened since the first phase."""
    rise = np.maximum(stack.pixels.astype(np.int32) - first.pixels, 0)
    return replace(stack, pixels=stored(rise.astype(np.float32)))


def projected(stack: Stack) -> Stack:
    """The maximum along the slices, as one image in the middle of them."""
    affine = stack.grid.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (stack.grid.shape[0] - 1) / 2
    _, rows, columns = stack.grid.shape
    return replace(stack, pixels=stack.pixels.max(axis=0)[None], grid=Grid(shape=(1, rows, columns), affine=affine))


def localizer(phantom: BreastPhantom) -> Stack:
    """Three slices far apart, as every examination begins with."""
    grid = phantom.grid
    picked = [grid.shape[0] // 4, grid.shape[0] // 2, 3 * grid.shape[0] // 4]
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, 0] * picked[0]
    affine[:3, 0] *= (picked[2] - picked[0]) / 2
    where = Grid(shape=(3, *grid.shape[1:]), affine=affine)
    image = Image(voxels=phantom.dce[0][picked], grid=where)
    given = {
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM"], "ScanningSequence": "GR", "SequenceVariant": "SP",
        "ScanOptions": "", "MRAcquisitionType": "2D", "RepetitionTime": "8.6", "EchoTime": "4", "EchoTrainLength": "1",
        "FlipAngle": "20",
    }  # fmt: skip
    return stack_of(image, LOCALIZER_S, given)
