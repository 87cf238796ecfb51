"""What can go wrong in a study.

The tree, below lab.errors.LabError::

    StudyError
    ├── StudyFileError     the study file is missing, malformed or asks for the impossible
    ├── StudyResultError   a folder of results is missing, incomplete or of another version
    └── EngineError        an engine cannot carry a case out
"""

from __future__ import annotations

from lab.errors import LabError


class StudyError(LabError):
    """Root of all errors of a study."""


class StudyFileError(StudyError):
    """The study file is missing, malformed or asks for the impossible."""


class StudyResultError(StudyError):
    """A folder of results is missing, incomplete or of another version."""


class EngineError(StudyError):
    """An engine cannot carry a case out."""
