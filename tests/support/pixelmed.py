"""PixelMed's SR validator (Debian libpixelmed-java): template rows and context groups, many files in one process.

Its rules are XSLT stylesheets of seven megabytes. Java's processor takes a second or more for each file, libxslt a
thirtieth of that, so the stylesheets out of its own jar are applied by libxslt; the trees that they are applied to, and the
second pass, are PixelMed's code. `own_processor` applies them as PixelMed does, and a test holds that both say the
same, letter for letter. A Java machine cannot be ended, so it lives in a process of its own: this module run as a script.
"""

import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lxml import etree

JAR = Path("/usr/share/java/pixelmed.jar")
FLAGS = (
    "-Djdk.xml.xpathExprGrpLimit=0",
    "-Djdk.xml.xpathExprOpLimit=0",
    "-Djdk.xml.xpathTotalOpLimit=0",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
)
FOLDER = "com/pixelmed/validate/"
RULES = "DicomSRDescriptionsCompiled.xsl"
XSL = "{http://www.w3.org/1999/XSL/Transform}"
OWN = "--own-processor"


def pixelmed(files: Sequence[Path]) -> list[str]:
    """Errors in these reports, one line each."""
    found = []
    for file, said in everything_said(files).items():
        lines = said.splitlines()
        if not any("IOD validation complete" in line for line in lines):
            found.append(f"{file.name}: not validated: {lines[-1:]}")
        found += [f"{file.name}: {line}" for line in lines if "Error" in line or "Exception" in line]
    return found


def everything_said(files: Sequence[Path], *, own_processor: bool = False) -> dict[Path, str]:
    """The validator's whole answer about each file."""
    if not JAR.exists():
        raise FileNotFoundError("apt-get install libpixelmed-java default-jre-headless")
    done = subprocess.run(
        [sys.executable, __file__, *([OWN] if own_processor else []), *map(str, files)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"PixelMed's validator did not run: {done.stderr[-2000:]}")
    answers = json.loads(done.stdout)
    return {file: answers[str(file)] for file in files}


class InJar(etree.Resolver):
    """What a stylesheet names is taken out of the jar."""

    def resolve(self, system_url: str, public_id: str, context: Any) -> Any:
        with zipfile.ZipFile(JAR) as jar:
            tree = etree.fromstring(jar.read(FOLDER + Path(system_url).name), huge())
        without_repetitions(tree)
        return self.resolve_string(etree.tostring(tree), context, base_url=system_url)


def huge() -> etree.XMLParser:
    return etree.XMLParser(huge_tree=True)


def without_repetitions(tree: Any) -> None:
    """Take away what libxslt refuses: a variable that is set once more, to the same, inside the element that set it."""
    for variable in list(tree.iter(f"{XSL}variable")):
        for outer in variable.iterancestors():
            for earlier in outer.itersiblings(f"{XSL}variable", preceding=True):
                if earlier.get("name") == variable.get("name") and words(earlier) == words(variable):
                    variable.getparent().remove(variable)
                    break
            if variable.getparent() is None:
                break


def words(element: Any) -> str:
    return "".join(etree.tostring(element, encoding="unicode", with_tail=False).split())


def rules() -> etree.XSLT:
    """PixelMed's first pass, compiled by libxslt."""
    parser = huge()
    parser.resolvers.add(InJar())
    with zipfile.ZipFile(JAR) as jar:
        tree = etree.fromstring(jar.read(FOLDER + RULES), parser, base_url=f"jar:///{RULES}")
    return etree.XSLT(tree)


def answers_about(files: Sequence[str], *, own_processor: bool) -> dict[str, str]:
    import jpype

    jpype.startJVM(*FLAGS, classpath=[str(JAR)])
    validator = jpype.JClass("com.pixelmed.validate.DicomSRValidator")()
    if own_processor:
        return {file: str(validator.validate(file)) for file in files}
    [second] = [m for m in validator.getClass().getDeclaredMethods() if str(m.getName()) == "validateSecondPass"]
    second.setAccessible(True)
    first = rules()
    found = {}
    for file in files:
        attributes = jpype.JClass("com.pixelmed.dicom.AttributeList")()
        attributes.read(file)
        factory = jpype.JClass("com.pixelmed.dicom.XMLRepresentationOfStructuredReportObjectFactory")()
        document = factory.getDocument(attributes)
        said = first(xml(document), optionMatchCaseOfCodeMeaning=etree.XSLT.strparam("T"))
        found[file] = str(second.invoke(validator, document, str(said)))
    return found


def xml(document: Any) -> Any:
    """A Java document as one of libxml2's."""
    import jpype

    out = jpype.JClass("java.io.ByteArrayOutputStream")()
    transformer = jpype.JClass("javax.xml.transform.TransformerFactory").newInstance().newTransformer()
    source = jpype.JClass("javax.xml.transform.dom.DOMSource")(document)
    transformer.transform(source, jpype.JClass("javax.xml.transform.stream.StreamResult")(out))
    return etree.fromstring(bytes(out.toByteArray()), huge())


if __name__ == "__main__":
    arguments = sys.argv[1:]
    named = [a for a in arguments if a != OWN]
    print(json.dumps(answers_about(named, own_processor=OWN in arguments)))
