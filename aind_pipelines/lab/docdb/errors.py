"""MongoDB's error codes, and the exception that carries one to the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INTERNAL_ERROR = 1
BAD_VALUE = 2
FAILED_TO_PARSE = 9
USER_NOT_FOUND = 11
UNAUTHORIZED = 13
TYPE_MISMATCH = 14
OVERFLOW = 15
INVALID_LENGTH = 16
PROTOCOL_ERROR = 17
AUTHENTICATION_FAILED = 18
INVALID_BSON = 22
NAMESPACE_NOT_FOUND = 26
INDEX_NOT_FOUND = 27
PATH_NOT_VIABLE = 28
CONFLICTING_UPDATE_OPERATORS = 40
CURSOR_NOT_FOUND = 43
NAMESPACE_EXISTS = 48
MAX_TIME_EXPIRED = 50
DOLLAR_PREFIXED_FIELD_NAME = 52
INVALID_ID_FIELD = 53
COMMAND_NOT_FOUND = 59
IMMUTABLE_FIELD = 66
CANNOT_CREATE_INDEX = 67
INVALID_OPTIONS = 72
INVALID_NAMESPACE = 73
INDEX_OPTIONS_CONFLICT = 85
INDEX_KEY_SPECS_CONFLICT = 86
NOT_IMPLEMENTED = 238
RETRYABLE_WRITES_UNSUPPORTED = 301
UNSUPPORTED_OP_QUERY = 352
BSON_OBJECT_TOO_LARGE = 10334
DUPLICATE_KEY = 11000
INTERRUPTED_AT_SHUTDOWN = 11600
OUT_OF_DISK_SPACE = 14031
DISTINCT_TOO_LARGE = 17217
INVALID_REGEX = 51091
REGEX_LIMIT = 51156

NAMES = {
    1: "InternalError",
    2: "BadValue",
    9: "FailedToParse",
    11: "UserNotFound",
    13: "Unauthorized",
    14: "TypeMismatch",
    15: "Overflow",
    16: "InvalidLength",
    17: "ProtocolError",
    18: "AuthenticationFailed",
    22: "InvalidBSON",
    26: "NamespaceNotFound",
    27: "IndexNotFound",
    28: "PathNotViable",
    40: "ConflictingUpdateOperators",
    43: "CursorNotFound",
    48: "NamespaceExists",
    50: "MaxTimeMSExpired",
    52: "DollarPrefixedFieldName",
    53: "InvalidIdField",
    59: "CommandNotFound",
    66: "ImmutableField",
    67: "CannotCreateIndex",
    72: "InvalidOptions",
    73: "InvalidNamespace",
    85: "IndexOptionsConflict",
    86: "IndexKeySpecsConflict",
    238: "NotImplemented",
    352: "UnsupportedOpQueryCommand",
    10334: "BSONObjectTooLarge",
    11000: "DuplicateKey",
    11600: "InterruptedAtShutdown",
    14031: "OutOfDiskSpace",
}


class CommandError(Exception):
    """A command was refused or failed.

    Attributes:
        code: MongoDB's error code.
        message: What the client reads as ``errmsg``.
        details: Further fields of the error document, such as ``keyPattern``.
    """

    def __init__(self, code: int, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = dict(details or {})

    def document(self) -> dict[str, Any]:
        """The reply that MongoDB sends for a failed command."""
        return {
            "ok": 0.0,
            "errmsg": self.message,
            "code": self.code,
            "codeName": NAMES.get(self.code, f"Location{self.code}"),
            **self.details,
        }


def not_implemented(what: str) -> CommandError:
    """The refusal of something that MongoDB can do and this server cannot."""
    return CommandError(NOT_IMPLEMENTED, f"{what} is not supported by the embedded DocDB")


def bad_value(message: str) -> CommandError:
    """The refusal of an argument that MongoDB refuses too."""
    return CommandError(BAD_VALUE, message)
