"""Debian's Orthanc as the PACS of a test: the same class that `radnode demo` uses (methods are documented there).

    def test_...(pacs: Orthanc) -> None:      # fixtures `pacs` (its own) and `shared_pacs` (one per session), tests/conftest.py
        pacs.know_node(port); pacs.upload(file); pacs.send_to_node(study_uid)
        pacs.qido(f"studies/{study_uid}/instances"); pacs.files(study_uid)

Starting it without Orthanc installed raises PacsError: the test fails, it is never skipped.
"""

from radnode.demo.pacs import AE_TITLE, Orthanc, PacsError, free_ports

__all__ = ["AE_TITLE", "Orthanc", "PacsError", "free_ports"]
