"""DICOM in (stills and cine loops) and out (Secondary Capture, Structured Report)."""
