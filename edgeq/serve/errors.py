"""What a request is refused with, whatever its dialect."""

from __future__ import annotations

from edgeq.errors import EdgeqError, GrammarError, OutOfMemoryError, UsageError

STRUCTURED_FAILED = "structured_output_failed"  # an answer broke off that could not be what was asked for
# status → the word of OpenAI's and Anthropic's clients for what went wrong
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


class ApiError(Exception):
    """A request that is not answered: a status, one sentence, and what a program can tell it by.

    param: the field that is wrong. retry_after: seconds after which it may be tried again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
        **facts: int,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.facts = facts  # numbers that stand beside the message
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)
        if status == 500:
            self.headers["x-should-retry"] = "false"

    @property
    def type(self) -> str:
        return TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")


def wrong(param: str, message: str) -> ApiError:
    """A field whose value cannot be taken."""
    return ApiError(400, message, code="invalid_value", param=param)


def unsupported(param: str, why: str) -> ApiError:
    """A field that is known and cannot be honoured."""
    return ApiError(400, f"{param} is not supported: {why}", code="unsupported_parameter", param=param)


def api_error(error: BaseException) -> ApiError:
    """An error of edgeq's own, or of its code, as a client may hear of it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UsageError):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, OutOfMemoryError):
        return ApiError(
            503, "the machine has no memory for this request just now", code="out_of_memory", retry_after=5
        )
    if isinstance(error, GrammarError):
        return ApiError(500, str(error), code=STRUCTURED_FAILED)
    if isinstance(error, EdgeqError):
        return ApiError(500, str(error))
    return ApiError(500, "the server failed at this request; its log says where")
