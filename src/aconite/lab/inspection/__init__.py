"""`aconite inspect`: a model, data, one pass, and what its activations did."""

from aconite.lab.inspection.page import inspection_page, print_inspection
from aconite.lab.inspection.run import Inspection, inspect, inspection_json
from aconite.lab.inspection.subject import Subject, subject

__all__ = ["Inspection", "Subject", "inspect", "inspection_json", "inspection_page", "print_inspection", "subject"]
