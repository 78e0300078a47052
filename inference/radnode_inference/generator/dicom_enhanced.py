"""A series as one Enhanced MR Image object (PS3.3 A.36): all time points or b values as frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from radnode_inference.generator.dicom_parts import (
    Order,
    Private,
    after,
    common,
    corner,
    date,
    numbers,
    pixel_format,
    plane,
    save,
    time,
)
from radnode_inference.generator.stacks import Stack, Written

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
DIMENSIONS = (("TemporalPositionIndex", 0x00209128), ("InStackPositionNumber", 0x00209057))
FRAME_CONTENT = 0x00209111


def item(**values: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def code(value: str, scheme: str, meaning: str) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def write_enhanced(series: Written, folder: Path, order: Order) -> Path:
    """The file of one series."""
    number, description, stacks = series.number, series.description, series.stacks
    first = stacks[0]
    ds = common(order, "MR")
    ds.SOPClassUID, ds.SOPInstanceUID = ENHANCED_MR, order.uid("image", str(number), "1")
    ds.SeriesInstanceUID, ds.SeriesNumber = order.uid("series", str(number)), number
    ds.SeriesDescription, ds.ProtocolName = description, description
    ds.InstanceNumber = 1
    when = after(order, first.begins_s)
    ds.SeriesDate, ds.ContentDate, ds.SeriesTime, ds.ContentTime = date(when), date(when), time(when), time(when)
    ds.NumberOfFrames = sum(len(s.pixels) for s in stacks)
    image_type(ds, first.attributes)
    acquired(ds, order, first)
    if ds.ImageType[0] == "ORIGINAL":
        pulse_sequence(ds, first.attributes)
    dimensions(ds, order)
    contrast(ds, stacks)
    ds.AcquisitionContextSequence = []
    ds.SharedFunctionalGroupsSequence = [shared(order, first)]
    ds.PerFrameFunctionalGroupsSequence = [
        frame(order, stacks[position], position, index) for position, index in frame_order(series)
    ]
    pixel_format(ds, (first.pixels.shape[1], first.pixels.shape[2]), first.bits)
    pixels = np.stack([stacks[position].pixels[index] for position, index in frame_order(series)])
    for edit in series.edits:
        edit(ds)
    return save(ds, pixels, ENHANCED_MR, folder / f"{number:02d}" / "00001.dcm", order.compression)


def frame_order(series: Written) -> list[tuple[int, int]]:
    """(stack, slice) of every frame, in the order in which they are written."""
    every = [(position, index) for position, s in enumerate(series.stacks) for index in range(len(s.pixels))]
    return sorted(every, key=lambda frame: frame[::-1]) if series.by_place else every


def image_type(ds: Dataset, attributes: dict[str, Any]) -> None:
    """Image Type and the Common CT/MR description of PS3.3 C.8.16.1 and C.8.16.2."""
    kind = attributes["ImageType"]
    ds.ImageType = [*kind[:2], "VOLUME" if kind[2] == "M" else kind[2], "NONE" if kind[0] == "ORIGINAL" else "ADC"]
    if ds.ImageType[2] == "ADC":
        ds.ImageType = ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]
    ds.PixelPresentation, ds.VolumetricProperties, ds.VolumeBasedCalculationTechnique = "MONOCHROME", "VOLUME", "NONE"
    ds.ComplexImageComponent = "MAGNITUDE"
    ds.AcquisitionContrast = {"SE": "T2", "EP": "DIFFUSION", "GR": "T1"}[attributes["ScanningSequence"]]
    ds.ContentQualification, ds.BurnedInAnnotation, ds.LossyImageCompression = "RESEARCH", "NO", "00"
    ds.PresentationLUTShape = "IDENTITY"


def acquired(ds: Dataset, order: Order, stack: Stack) -> None:
    """The Enhanced MR Image module (PS3.3 C.8.13.1)."""
    ds.AcquisitionNumber, ds.AcquisitionDateTime = 1, date(order.began) + time(after(order, stack.begins_s))
    ds.AcquisitionDuration = float(stack.attributes.get("TemporalResolution", 120000)) / 1000
    ds.ResonantNucleus, ds.KSpaceFiltering, ds.MagneticFieldStrength = "1H", "NONE", 3.0
    ds.ApplicableSafetyStandardAgency = "IEC"


def pulse_sequence(ds: Dataset, given: dict[str, Any]) -> None:
    """The MR Pulse Sequence module (PS3.3 C.8.13.4)."""
    kind = given["ScanningSequence"]
    ds.PulseSequenceName = {"SE": "tse2d", "EP": "epse2d", "GR": "fl3d"}[kind]
    ds.MRAcquisitionType = given["MRAcquisitionType"]
    ds.EchoPulseSequence = {"SE": "SPIN", "EP": "SPIN", "GR": "GRADIENT"}[kind]
    if kind != "GR":
        ds.MultipleSpinEcho = "YES" if kind == "SE" else "NO"
    ds.MultiPlanarExcitation, ds.PhaseContrast, ds.TimeOfFlightContrast = "NO", "NO", "NO"
    ds.SteadyStatePulseSequence, ds.EchoPlanarPulseSequence = "NONE", "YES" if kind == "EP" else "NO"
    ds.SpectrallySelectedSuppression, ds.OversamplingPhase, ds.SaturationRecovery = "FAT", "NONE", "NO"
    ds.GeometryOfKSpaceTraversal, ds.SegmentedKSpaceTraversal = "RECTILINEAR", "SINGLE"
    ds.RectilinearPhaseEncodeReordering, ds.NumberOfKSpaceTrajectories = "LINEAR", 1
    if ds.MRAcquisitionType == "3D":
        ds.CoverageOfKSpace = "FULL"


def dimensions(ds: Dataset, order: Order) -> None:
    """Time first, then place in the stack (PS3.3 C.7.6.17)."""
    uid = order.uid("dimensions", str(ds.SeriesNumber))
    ds.DimensionOrganizationSequence = [item(DimensionOrganizationUID=uid)]
    ds.DimensionIndexSequence = [
        item(
            DimensionOrganizationUID=uid, DimensionIndexPointer=pointer,
            FunctionalGroupPointer=FRAME_CONTENT, DimensionDescriptionLabel=name,
        )
        for name, pointer in DIMENSIONS
    ]  # fmt: skip


def contrast(ds: Dataset, stacks: Sequence[Stack]) -> None:
    """The Enhanced Contrast/Bolus module (PS3.3 C.7.6.4b), where any time point had contrast."""
    given = [s.attributes for s in stacks if "ContrastBolusAgent" in s.attributes]
    if not given:
        return
    agent = code("424460000", "SCT", "Gadobutrol")
    agent.ContrastBolusAgentNumber = 1
    agent.ContrastBolusIngredientCodeSequence = [code("105879004", "SCT", "Gadolinium compound")]
    agent.ContrastBolusAdministrationRouteSequence = [code("47625008", "SCT", "Intravenous route")]
    agent.ContrastBolusVolume, agent.ContrastBolusIngredientConcentration = 7.0, 604.72
    if "ContrastBolusStartTime" in given[0]:
        profile = item(ContrastBolusVolume="7", ContrastBolusStartTime=given[0]["ContrastBolusStartTime"])
        agent.ContrastAdministrationProfileSequence = [profile]
    ds.ContrastBolusAgentSequence = [agent]


def shared(order: Order, stack: Stack) -> Dataset:
    """The functional groups that hold for all frames (PS3.3 A.36.2.3)."""
    given = stack.attributes
    measures, orientation = Dataset(), Dataset()
    plane(measures, stack.grid)
    orientation.ImageOrientationPatient = measures.ImageOrientationPatient
    del measures.ImageOrientationPatient
    measures.SliceThickness = given["SliceThickness"]
    measures.SpacingBetweenSlices = given["SpacingBetweenSlices"]
    types = Dataset()
    image_type(types, given)
    kind = item(
        FrameType=types.ImageType, PixelPresentation="MONOCHROME", VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE", ComplexImageComponent="MAGNITUDE",
        AcquisitionContrast=types.AcquisitionContrast,
    )  # fmt: skip
    anatomy = item(FrameLaterality="B", AnatomicRegionSequence=[code("76752008", "SCT", "Breast")])
    group = item(
        PixelMeasuresSequence=[measures], PlaneOrientationSequence=[orientation], FrameAnatomySequence=[anatomy],
        MRImageFrameTypeSequence=[kind],
    )  # fmt: skip
    if stack.slope == 1:
        group.PixelValueTransformationSequence = [transformation(stack)]
    acquisition(group, stack)
    return group


def transformation(stack: Stack) -> Dataset:
    return item(RescaleIntercept="0", RescaleSlope=f"{stack.slope:.8g}", RescaleType="US")


def acquisition(group: Dataset, stack: Stack) -> None:
    """How the frames were acquired (PS3.3 C.8.13.5)."""
    given = stack.attributes
    gradient = 1 if given["ScanningSequence"] == "GR" else 0
    mode = item(OperatingModeType="RF", OperatingMode="IEC_NORMAL")
    group.MRTimingAndRelatedParametersSequence = [
        item(
            RepetitionTime=given["RepetitionTime"], FlipAngle=given["FlipAngle"], EchoTrainLength=given["EchoTrainLength"],
            RFEchoTrainLength=0 if gradient else 17, GradientEchoTrainLength=gradient,
            SpecificAbsorptionRateSequence=[item(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=0.8)],
            GradientOutputType="DB_DT", GradientOutput=50.0, OperatingModeSequence=[mode],
        )
    ]  # fmt: skip
    rows, columns = stack.pixels.shape[1:]
    group.MRFOVGeometrySequence = [
        item(
            InPlanePhaseEncodingDirection="ROW", MRAcquisitionFrequencyEncodingSteps=columns,
            MRAcquisitionPhaseEncodingStepsInPlane=rows, MRAcquisitionPhaseEncodingStepsOutOfPlane=len(stack.pixels),
            PercentSampling="100", PercentPhaseFieldOfView="100",
        )
    ]  # fmt: skip
    group.MREchoSequence = [item(EffectiveEchoTime=float(given["EchoTime"]))]
    group.MRModifierSequence = [
        item(
            InversionRecovery="NO", FlowCompensation="NONE", Spoiling="RF" if gradient else "NONE", T2Preparation="NO",
            SpectrallySelectedExcitation="NONE", SpatialPresaturation="NONE", PartialFourier="NO", ParallelAcquisition="NO",
        )
    ]  # fmt: skip
    group.MRImagingModifierSequence = [
        item(MagnetizationTransfer="NONE", BloodSignalNulling="NO", Tagging="NONE", TransmitterFrequency=127.7,
             PixelBandwidth="400")
    ]  # fmt: skip
    group.MRReceiveCoilSequence = [
        item(ReceiveCoilName="Breast 18", ReceiveCoilManufacturerName="", ReceiveCoilType="MULTICOIL",
             QuadratureReceiveCoil="NO", MultiCoilDefinitionSequence=[
                 item(MultiCoilElementName="1", MultiCoilElementUsed="YES")])
    ]  # fmt: skip
    group.MRTransmitCoilSequence = [
        item(TransmitCoilName="Body", TransmitCoilManufacturerName="", TransmitCoilType="BODY")
    ]
    group.MRAveragesSequence = [item(NumberOfAverages="1")]


def frame(order: Order, stack: Stack, position: int, index: int) -> Dataset:
    """The functional groups of one frame: when, where, and what contrast or b value."""
    began = after(order, stack.begins_s)
    lasts = float(stack.attributes.get("TemporalResolution", 120000))
    centre = after(order, stack.begins_s + lasts / 2000)
    content = item(
        FrameAcquisitionNumber=1, FrameAcquisitionDateTime=date(began) + time(began), FrameAcquisitionDuration=lasts,
        FrameReferenceDateTime=date(centre) + time(centre), TemporalPositionIndex=position + 1, StackID="1",
        InStackPositionNumber=index + 1, DimensionIndexValues=[position + 1, index + 1],
    )  # fmt: skip
    place = item(ImagePositionPatient=numbers(corner(stack.grid, index)))
    group = item(FrameContentSequence=[content], PlanePositionSequence=[place])
    if stack.slope != 1:
        group.PixelValueTransformationSequence = [transformation(stack)]
    if stack.private:
        group.update(philips_frame(stack))
    if "DiffusionBValue" in stack.attributes:
        b = float(stack.attributes["DiffusionBValue"])
        directional = "NONE" if b == 0 else "ISOTROPIC"
        group.MRDiffusionSequence = [item(DiffusionBValue=b, DiffusionDirectionality=directional)]
    if "NumberOfTemporalPositions" in stack.attributes:
        given = "YES" if "ContrastBolusAgent" in stack.attributes else "NO"
        usage = item(ContrastBolusAgentNumber=1, ContrastBolusAgentAdministered=given, ContrastBolusAgentDetected=given)
        group.ContrastBolusUsageSequence = [usage]
    return group


def philips_frame(stack: Stack) -> Dataset:
    """The elements of a classic Philips image, as its enhanced images carry them in (2005,140F)."""
    inner, outer = Dataset(), Dataset()
    for element in stack.private:
        element.write(inner)
    Private(tag=0x2005140F, creator="Philips MR Imaging DD 005", vr="SQ", value=[inner]).write(outer)
    return outer
