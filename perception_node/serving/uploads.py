# SPDX-License-Identifier: Apache-2.0
"""The image in a request: a form's field ``file``, or the body itself. Nothing touches a disk."""

from __future__ import annotations

from io import BytesIO
from typing import IO, TYPE_CHECKING, cast

from flask import Request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from perception_node.errors import BadUpload, UnsupportedUpload, UploadTooLarge

if TYPE_CHECKING:
    from werkzeug.formparser import FormDataParser

FIELD = "file"
FORM = "multipart/form-data"
BYTES = "application/octet-stream"
MAX_FIELDS = 16  # parts of a form; we need one
MAX_FIELD_BYTES = 80 << 10  # of the parts that are no files; Werkzeug holds 64 KiB and a boundary
HOW = "send one image as the form's field 'file', or as the body with Content-Type image/jpeg"


class UploadRequest(Request):
    """A request whose files stay in memory, and whose damaged forms are errors."""

    def _get_file_stream(self, *_said: object, **_more: object) -> IO[bytes]:
        """Return where a file goes: the whole body is bounded, so memory is enough for it."""
        return BytesIO()

    def make_form_data_parser(self) -> FormDataParser:
        """Return a parser that does not take a damaged form for an empty one."""
        parser = super().make_form_data_parser()
        parser.silent = False
        return parser


def read_image(request: Request, max_bytes: int) -> bytes:
    """Return the bytes of the one image in a request; names that the client gives are not used.

    Raises:
        BadUpload: there is none, more than one, or the form is damaged.
        UnsupportedUpload: the Content-Type is another one.
        UploadTooLarge: the body has more than ``max_bytes``, or the form too many fields.

    """
    if (request.content_length or 0) > max_bytes:
        msg = f"the request is larger than {max_bytes >> 20} MiB; send a smaller image"
        raise UploadTooLarge(msg)
    if request.mimetype == FORM:
        data = _read_form(request)
    elif request.mimetype == BYTES or request.mimetype.startswith("image/"):
        data = request.get_data(cache=False)
    elif not request.content_length:
        raise BadUpload(f"there is no image in the request; {HOW}")
    else:
        raise UnsupportedUpload(f"the Content-Type is not that of an image; {HOW}")
    if not data:
        raise BadUpload(f"the image is empty; {HOW}")
    return data


def _read_form(request: Request) -> bytes:
    try:
        files = request.files.getlist(FIELD)
        is_text = FIELD in request.form
    except RequestEntityTooLarge as error:
        raise UploadTooLarge(f"the form has too many or too large fields; {HOW}") from error
    except (ValueError, BadRequest) as error:  # the latter: a part without Content-Disposition
        raise BadUpload(f"the form is damaged or was cut short; {HOW}") from error
    if is_text:
        raise BadUpload("the field 'file' is text; send it as a file: curl -F file=@cat.jpg")
    if len(files) != 1:
        problem = f"the form has {len(files) or 'no'} files in its field 'file'"
        raise BadUpload(f"{problem}; {HOW}")
    return cast("BytesIO", files[0].stream).getvalue()  # read() would copy it
